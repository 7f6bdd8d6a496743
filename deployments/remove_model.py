"""An owner takes a model out of the mesh; its artifacts and its history stay.

Steps: ``deployed/NAME.toml`` goes; its applications end, each replica once its calls have; the
history has it. Killed after the first, the model serves until it is removed again or the mesh ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray import serve

from recmesh.deployments.applications import remove
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.model_app import TRIAL, application_of
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.models.registry import check_known


@dataclass(frozen=True, slots=True)
class Removal:
    """What came of it."""

    model: str
    changed: bool
    """False: it was not there."""
    named: bool
    """Whether the mesh's configuration names it: the next ``recmesh up`` runs it again."""


def remove_model(mesh: OwnersMesh, name: str) -> Removal:
    """Takes a model out; done twice, it is out once. Versions beside the live one are not touched.

    Raises:
        NotFoundError: there is no such model.
        UnavailableError: the cluster does not answer.
    """
    check_known(name)
    with mesh.deployed.turn(name, mesh.waits):
        changed = mesh.deployed.remove(name)
        if mesh.running is not None:
            with joined_cluster(mesh.home, mesh.running.ray_address):
                if application_of(name, TRIAL) in serve.status().applications:
                    remove(name, TRIAL)
                changed = remove(name) or changed
        if changed:
            mesh.note(name, "", "removed")
    named = name in MeshConfig.load(mesh.file, deployed={}).models
    return Removal(name, changed, named)
