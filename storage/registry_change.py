"""Rows of the models' registry, changed together in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from recmesh.storage.database import Database
from recmesh.storage.model_stage import Stage
from recmesh.storage.model_tables import MODEL_CHANGES, MODEL_VERSIONS
from recmesh.storage.model_version import Ownership

REGISTRY_LOCK = 7_236_911
"""PostgreSQL's advisory lock under which one transaction at a time changes stages."""
RECONCILED = "reconciled"


@contextmanager
def registry_change(database: Database, now_ms: int) -> Iterator[RegistryChange]:
    """A transaction in which stages change; no other one changes any meanwhile.

    Raises:
        UnavailableError: the database failed; nothing was written.
    """
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({REGISTRY_LOCK})")
        yield RegistryChange(connection, now_ms)


class RegistryChange:
    """Rows of one transaction."""

    def __init__(self, connection: sa.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms

    def models(self) -> list[str]:
        """Models of which it knows a version."""
        return list(
            self._connection.execute(sa.select(MODEL_VERSIONS.c.model).distinct()).scalars()
        )

    def stages(self, model: str) -> dict[str, Stage]:
        """Where each version of a model is."""
        columns = MODEL_VERSIONS.c.version, MODEL_VERSIONS.c.stage
        rows = self._connection.execute(
            sa.select(*columns).where(MODEL_VERSIONS.c.model == model).order_by(columns[0])
        )
        return {version: Stage(stage) for version, stage in rows}

    def register(
        self, model: str, version: str, said: Ownership, card: Mapping[str, Any], stage: Stage
    ) -> None:
        """Takes a version in."""
        self._connection.execute(
            sa.insert(MODEL_VERSIONS).values(
                model=model,
                version=version,
                owner=said.owner,
                contact=said.contact,
                summary=said.summary,
                card=json.dumps(card, sort_keys=True, ensure_ascii=False),
                stage=stage,
                registered_at=self._now_ms,
            )
        )
        self.note(model, version, by="", did=RECONCILED, detail="a new artifact", to=stage)

    def live(self, model: str, version: str, *, by: str, did: str, detail: str) -> None:
        """Makes a version live. The one before is retired first: no moment has two."""
        stages = self.stages(model)
        for before in [v for v, stage in stages.items() if stage is Stage.LIVE]:
            self.to(
                model,
                before,
                Stage.LIVE,
                Stage.RETIRED,
                by=by,
                did=did,
                detail=f"{version} went live",
            )
        self.to(model, version, stages[version], Stage.LIVE, by=by, did=did, detail=detail)

    def to(
        self,
        model: str,
        version: str,
        now: Stage,
        to: Stage,
        *,
        by: str,
        did: str,
        detail: str,
    ) -> None:
        """Moves a version from where it is."""
        self._connection.execute(
            sa.update(MODEL_VERSIONS)
            .where(MODEL_VERSIONS.c.model == model, MODEL_VERSIONS.c.version == version)
            .values(stage=to)
        )
        self.note(model, version, by=by, did=did, detail=detail, now=now, to=to)

    def note(
        self,
        model: str,
        version: str,
        *,
        by: str,
        did: str,
        detail: str,
        now: str = "",
        to: str = "",
    ) -> None:
        """Appends to the history."""
        self._connection.execute(
            sa.insert(MODEL_CHANGES).values(
                at=self._now_ms,
                by=by,
                model=model,
                version=version,
                did=did,
                from_stage=now,
                to_stage=to,
                detail=detail,
            )
        )
