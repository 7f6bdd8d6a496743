"""The registry of models: their versions by stage, their owners, and every change with its author.

What is live is decided by ``live.json`` beside the artifacts, which is replaced at once; the
registry follows it (:meth:`ModelRegistry.reconcile`). So training, retraining and whoever dies
between the two leave nothing undecided.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.database import Database
from recmesh.storage.errors import ArtifactError, ConfigurationError, NotFoundError
from recmesh.storage.model_stage import ALONE, Stage, check_allowed
from recmesh.storage.model_tables import MODEL_CHANGES, MODEL_VERSIONS
from recmesh.storage.model_version import ModelChange, ModelVersion, Ownership
from recmesh.storage.registry_change import RECONCILED, RegistryChange, registry_change

LOCK_WAIT_S = 10.0
"""How long an owner's command waits for another's: each writes for an instant."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ModelRegistry:
    """Versions and changes in a database. Calls block; each is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], int] = _now_ms) -> None:
        """``clock`` tells milliseconds since 1970."""
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, uri: str, file: Path) -> ModelRegistry:
        """Opens it for an instant's work, then :meth:`close` it: one process at a time has it.

        Args:
            uri: of PostgreSQL; empty: SQLite in ``file``.
            file: made when it is not there.

        Raises:
            ConfigurationError: another process has it for longer than commands do.
            UnavailableError: the database does not answer.
        """
        return cls(Database.for_writing(uri, file, wait_s=LOCK_WAIT_S))

    def close(self) -> None:
        """Lets the next one in."""
        self._database.close()

    def versions(self, model: str = "") -> list[ModelVersion]:
        """Of a model, or of all, each model's oldest first."""
        query = sa.select(MODEL_VERSIONS).order_by(
            MODEL_VERSIONS.c.model, MODEL_VERSIONS.c.registered_at, MODEL_VERSIONS.c.version
        )
        if model:
            query = query.where(MODEL_VERSIONS.c.model == model)
        with self._database.reading() as connection:
            return [_version(row) for row in connection.execute(query).mappings()]

    def get(self, model: str, version: str) -> ModelVersion:
        """One version; the beginning of its name is enough where it says which.

        Raises:
            NotFoundError: there is none of that name, or more than one.
        """
        of_model = self.versions(model)
        found = [one for one in of_model if version and one.version.startswith(version)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(
                f"model {model} has {len(found)} versions that begin with {version}: "
                f"{', '.join(one.version for one in found)}"
            )
        known = ", ".join(one.version for one in of_model) or "none"
        raise NotFoundError(f"model {model} has no version {version!r}; it has {known}")

    def in_stage(self, model: str, stage: Stage) -> ModelVersion | None:
        """The version that is live, or the canary, or the shadow; None: there is none."""
        return next((one for one in self.versions(model) if one.stage is stage), None)

    def history(self, model: str) -> list[ModelChange]:
        """What was done to a model, oldest first."""
        query = (
            sa.select(MODEL_CHANGES)
            .where(MODEL_CHANGES.c.model == model)
            .order_by(MODEL_CHANGES.c.seq)
        )
        with self._database.reading() as connection:
            return [ModelChange(**row) for row in connection.execute(query).mappings()]

    def note(self, model: str, version: str, *, by: str, did: str, detail: str = "") -> None:
        """Keeps in the history what changed no stage."""
        with self._changing() as change:
            change.note(model, version, by=by, did=did, detail=detail)

    def move(
        self, model: str, version: str, to: Stage, *, by: str, did: str, detail: str = ""
    ) -> bool:
        """Moves a version to another stage; False: it is there already, and nothing was kept.

        The version that goes live retires the one before; that is to follow
        :meth:`~recmesh.storage.artifacts.ArtifactStore.make_live`, never to precede it.

        Raises:
            NotFoundError: there is no such version.
            ConfigurationError: the transition is not allowed, or another version of the model is
                in that stage.
        """
        with self._changing() as change:
            stages = change.stages(model)
            if version not in stages:
                raise NotFoundError(f"model {model} has no version {version!r} in the registry")
            if stages[version] is to:
                return False
            check_allowed(f"{model}@{version}", stages[version], to)
            if to is Stage.LIVE:
                change.live(model, version, by=by, did=did, detail=detail)
                return True
            other = next((v for v, stage in stages.items() if stage is to), None)
            if to in ALONE and other is not None:
                raise ConfigurationError(
                    f"{model}@{other} is the {to} already, and a model has one at a time; "
                    f"end it first"
                )
            change.to(model, version, stages[version], to, by=by, did=did, detail=detail)
        return True

    def reconcile(self, store: ArtifactStore, owners: Mapping[str, Ownership]) -> None:
        """Takes over what the artifacts say: versions it does not know, and which is live.

        A version that is not there any more is retired. Done twice, it changes nothing.

        Args:
            store: the artifacts.
            owners: of the models that declare one; the others' is what their cards say.
        """
        with self._changing() as change:
            known = change.models()
            for model in sorted({*store.models(), *known}):
                self._reconcile(change, store, model, owners.get(model))

    def _reconcile(
        self, change: RegistryChange, store: ArtifactStore, model: str, owner: Ownership | None
    ) -> None:
        stages = change.stages(model)
        there = store.versions(model)
        live = store.live_version(model) if store.has_live(model) else ""
        before = {store.previous_version(model), store.left_version(model)}
        for version in [v for v in there if v not in stages]:
            try:
                card = asdict(store.card(model, version))
            except (ArtifactError, NotFoundError):
                # One owner's broken folder is nothing to other owners; loading it says why.
                continue
            stage = Stage.RETIRED if version in before else Stage.CANDIDATE
            said = owner or Ownership(card["owner"], "", card["summary"])
            change.register(model, version, said, card, stage)
            stages[version] = stage
        if live in stages and stages[live] is not Stage.LIVE:
            change.live(model, live, by="", did=RECONCILED, detail="as live.json says")
            stages[live] = Stage.LIVE
        for version, stage in stages.items():
            gone = version not in there and stage is not Stage.RETIRED
            if gone and version != live:
                change.to(
                    model,
                    version,
                    stage,
                    Stage.RETIRED,
                    by="",
                    did=RECONCILED,
                    detail="its artifact was removed",
                )

    def _changing(self) -> AbstractContextManager[RegistryChange]:
        return registry_change(self._database, self._clock())


def _version(row: Mapping[Any, Any]) -> ModelVersion:
    return ModelVersion(**{**row, "card": json.loads(row["card"]), "stage": Stage(row["stage"])})
