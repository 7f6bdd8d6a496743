"""The models' registry of one installation, brought up to date with its artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from recmesh.models.registry import declaration, known_models
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home
from recmesh.storage.model_registry import ModelRegistry
from recmesh.storage.model_version import Ownership

log = structlog.get_logger(__name__)


def owners() -> dict[str, Ownership]:
    """Of every model that declares one."""
    found: dict[str, Ownership] = {}
    for name in known_models():
        try:
            said = declaration(name)
        except ConfigurationError as error:
            log.warning("model without an owner", model=name, reason=str(error))
        else:
            found[name] = Ownership(said.owner, said.contact, said.summary)
    return found


@contextmanager
def open_registry(home: Home, database_uri: str) -> Iterator[ModelRegistry]:
    """The registry, for an instant: while it is open nobody else has it.

    It knows every artifact that is there now, and which is live.

    Args:
        home: folder of the installation.
        database_uri: of the configuration; empty: SQLite in the home folder.

    Raises:
        ConfigurationError: another process has it for longer than commands do.
        UnavailableError: the database does not answer.
    """
    registry = ModelRegistry.open(database_uri, home.model_registry)
    try:
        registry.reconcile(ArtifactStore(home.artifacts), owners())
        yield registry
    finally:
        registry.close()
