"""An owner says how many replicas of a model serve, and how many at most.

Steps: check; ``deployed/NAME.toml`` says the new bounds; Serve is told; the history has it. Killed
after the second, the mesh has the old number until it is scaled again or started anew. Replicas
that leave end their calls first.
"""

from __future__ import annotations

from dataclasses import dataclass

from recmesh.deployments.deployed_models import OwnReplicas
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.rollout import roll_out, state_of
from recmesh.storage.errors import ConfigurationError, NotFoundError


@dataclass(frozen=True, slots=True)
class Scaling:
    """What came of it."""

    model: str
    min_replicas: int
    max_replicas: int
    replicas: int
    """That serve now; 0: no mesh runs."""
    changed: bool


def scale_model(
    mesh: OwnersMesh, name: str, min_replicas: int | None, max_replicas: int | None
) -> Scaling:
    """Changes a model's bounds, and waits until as many replicas serve; twice is once.

    Args:
        mesh: where.
        name: the model's.
        min_replicas: None: as before, or fewer where ``max_replicas`` says so.
        max_replicas: None: as before, or more where ``min_replicas`` says so.

    Raises:
        NotFoundError: there is no such model, or a mesh runs without it.
        ConfigurationError: neither is said, least is above most, or the mesh's configuration
            says otherwise.
        UnavailableError: replicas do not come up; those that serve go on, and so does Serve.
    """
    if min_replicas is None and max_replicas is None:
        raise ConfigurationError("say --min, --max or both")
    if min_replicas is not None and max_replicas is not None and min_replicas > max_replicas:
        raise ConfigurationError(f"--min {min_replicas} is above --max {max_replicas}")
    with mesh.deployed.turn(name, mesh.waits):
        version = mesh.resolved(name, "")
        before = mesh.deployed.get(name)
        kept = before.replicas if before else OwnReplicas()
        now = mesh.table(name, kept)
        least = (
            min(now.min_replicas, max_replicas or 1000) if min_replicas is None else min_replicas
        )
        most = max(now.max_replicas, min_replicas or 1) if max_replicas is None else max_replicas
        own = kept.model_copy(update={"min_replicas": least, "max_replicas": most})
        table = mesh.table(name, own)
        wanted = OwnReplicas(min_replicas=min_replicas, max_replicas=max_replicas)
        mesh.check_wins(name, table, wanted)
        changed = before is None or before.replicas != own
        replicas = 0
        if mesh.running is not None:
            with joined_cluster(mesh.home, mesh.running.ray_address):
                state = state_of(mesh.run(name, table, version).target.name)
                if state is None:
                    raise NotFoundError(
                        f"{name} is not deployed in the mesh that runs; run: "
                        f"recmesh model deploy {name}"
                    )
                # A version that was trained meanwhile is not this command's to roll out.
                version = mesh.served_version(name, state)
                mesh.written(name, before.version if before else version, own)
                run = mesh.run(name, table, version)
                count = table.min_replicas, table.max_replicas
                replicas = len(roll_out(run, mesh.watched, count=count).replicas)
        else:
            mesh.written(name, before.version if before else version, own)
        if changed:
            detail = f"{table.min_replicas} to {table.max_replicas} replicas"
            mesh.note(name, version, "scaled", detail=detail)
        return Scaling(name, table.min_replicas, table.max_replicas, replicas, changed)
