"""What owners deployed: a file a model, so that no two of them write to the same place.

::

    deployed/NAME.toml     what NAME's owner deployed last, by whom and when
    deployed/.NAME.lock    held by whoever deploys, scales or removes NAME

A file of the same form, kept where an owner keeps code, is what ``recmesh model deploy FILE``
takes. Which version is live is not said here but by ``live.json`` beside the artifacts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog
import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from recmesh.models.declaration import Name
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.file_lock import file_lock
from recmesh.storage.toml_file import read_toml

log = structlog.get_logger(__name__)

TURN_S = 900.0
"""How long one change of a model may take before the next gives up waiting."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnReplicas(_Table):
    """What an owner says otherwise than the model's ``model.toml``; None: what that says."""

    min_replicas: int | None = Field(default=None, ge=1, le=1000)
    max_replicas: int | None = Field(default=None, ge=1, le=1000)
    num_cpus: float | None = Field(default=None, gt=0)
    num_gpus: float | None = Field(default=None, ge=0)
    target_inflight: float | None = Field(default=None, gt=0)
    pip: tuple[str, ...] | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The values that are said."""
        return self.model_dump(exclude_none=True)


class DeployedModel(_Table):
    """One file."""

    name: Name
    version: str = ""
    """Of the artifacts. In an owner's own file, empty: the live one."""
    replicas: OwnReplicas = OwnReplicas()
    by: str = ""
    """Who deployed it last; an owner's own file says nothing here."""
    at: str = ""
    """ISO 8601 moment of that."""

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads a file.

        Raises:
            ConfigurationError: says which value breaks which rule.
        """
        return read_toml(cls, file)


@dataclass(frozen=True, slots=True)
class DeployedModels:
    """The files in one folder."""

    folder: Path

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.toml"

    def get(self, name: str) -> DeployedModel | None:
        """What was deployed of a model; None: nothing. Raises ConfigurationError when damaged."""
        file = self._file(name)
        return DeployedModel.load(file) if file.is_file() else None

    def all(self) -> dict[str, DeployedModel]:
        """By model. A damaged file is left out and said: other owners' models run all the same."""
        found: dict[str, DeployedModel] = {}
        for file in sorted(self.folder.glob("[!.]*.toml")):
            try:
                found[file.stem] = DeployedModel.load(file)
            except ConfigurationError as error:
                log.warning("deployed model left out", reason=str(error))
        return found

    def write(self, deployed: DeployedModel) -> None:
        """Replaces a model's file at once. Needs :meth:`turn`."""
        file = self._file(deployed.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        pending = self.folder / f".{deployed.name}.{os.getpid()}"
        pending.write_text(tomli_w.dumps(deployed.model_dump(exclude_none=True)))
        pending.replace(file)

    def remove(self, name: str) -> bool:
        """Forgets what was deployed of a model; returns whether anything was. Needs a turn."""
        there = self._file(name).is_file()
        self._file(name).unlink(missing_ok=True)
        return there

    def turn(
        self, name: str, waiting: Callable[[str], None] = lambda _: None
    ) -> AbstractContextManager[None]:
        """Who changes a model does it inside: two who change the same one take turns.

        ``waiting`` is told whom it waits for. Raises ConfigurationError after ``TURN_S``.
        """
        return file_lock(
            self.folder / f".{name}.lock",
            wait_s=TURN_S,
            said=f"changes the deployment of {name}",
            waiting=waiting,
        )
