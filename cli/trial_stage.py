"""What trials do to the stages of versions, kept in the models' registry."""

from __future__ import annotations

from recmesh.cli.named_version import NamedVersion
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.open_registry import open_registry
from recmesh.storage.home import Home
from recmesh.storage.model_stage import Stage


def move(
    home: Home, named: NamedVersion, to: Stage, *, by: str, did: str, detail: str = ""
) -> None:
    """Moves a version, unless it is live: a model's first one is before anybody asks it.

    Raises:
        NotFoundError: there is no such version.
        ConfigurationError: the stage is another version's, or not to be reached from where it is.
    """
    with open_registry(home, mesh_config(home).database.uri) as registry:
        if registry.get(named.model, named.version).stage is Stage.LIVE:
            registry.note(named.model, named.version, by=by, did=did, detail=detail)
        else:
            registry.move(named.model, named.version, to, by=by, did=did, detail=detail)


def give_up(home: Home, model: str, *, by: str, did: str, detail: str) -> None:
    """Versions on trial are candidates again."""
    with open_registry(home, mesh_config(home).database.uri) as registry:
        for stage in (Stage.SHADOW, Stage.CANARY):
            found = registry.in_stage(model, stage)
            if found is not None:
                registry.move(model, found.version, Stage.CANDIDATE, by=by, did=did, detail=detail)
