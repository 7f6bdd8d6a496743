"""The mesh that runs for a home folder, for a command that changes it."""

from __future__ import annotations

from recmesh.deployments.mesh_record import MeshRecord, running_mesh
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def required_mesh(home: Home) -> MeshRecord:
    """The mesh that runs. Raises ConfigurationError where none does."""
    record = running_mesh(home)
    if record is None:
        raise ConfigurationError("no mesh runs here; start it with: recmesh up")
    return record
