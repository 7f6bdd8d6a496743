"""An owner puts a version of a model into service, or goes back to the one before.

Steps of :func:`deploy_model`, in this order; whoever deploys holds the model's turn meanwhile:

1. check: model, version, what the mesh's configuration says otherwise. Nothing is written.
2. try: one replica of the version is started in an application of its own, ``model-NAME@trial``,
   that nobody asks. It must come up, warm, and answer ``Describe`` with the version. What serves
   is not touched until then. The trial ends.
3. roll out: Serve is told to run the version in place of the one before. It starts new replicas
   first, and old ones leave once they serve.
4. commit: ``live.json`` names the version.
5. ``deployed/NAME.toml`` says what was deployed, by whom and when.
6. the registry follows, with the history.

Killed before 3, the old version serves, and a trial may be left that nobody asks and the next
deployment replaces. Killed during 3, Serve finishes it: the version was seen to come up. Killed
before 4, a mesh that is started anew runs the old version; ``recmesh model status`` shows that
what serves is not what is live. Killed after 4, the registry follows when it is opened next.
Deploying again does what is left. Ctrl-C, or a version that fails in 2 or 3, puts back what
served: Serve wants the old version again, also after a restart of its own.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ray import serve
from ray.exceptions import RayError

from recmesh.deployments.applications import DEPLOY_TIMEOUT_S, RUNNING
from recmesh.deployments.deployed_models import OwnReplicas
from recmesh.deployments.mesh_config import ModelTable
from recmesh.deployments.model_app import TRIAL, ModelRun, application_of
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.rollout import (
    INSTALL_TIMEOUT_S,
    roll_out,
    runs,
    state_of,
)
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import ConfigurationError, NotFoundError, RecMeshError, UnavailableError


@dataclass(frozen=True, slots=True)
class Deployment:
    """What came of it."""

    model: str
    version: str
    before: str
    """What was live before; empty: nothing."""
    changed: bool
    """False: it was deployed like this already."""
    serves: bool
    """False: no mesh runs; the next one runs it, and it was not tried."""


def deploy_model(
    mesh: OwnersMesh, name: str, version: str = "", replicas: OwnReplicas | None = None
) -> Deployment:
    """Deploys a version; done twice, it is deployed once.

    Args:
        mesh: where.
        name: the model's.
        version: or its beginning; empty: the live one.
        replicas: what its owner wants otherwise than ``model.toml``; None: as before.

    Raises:
        NotFoundError: there is no such model or version.
        ConfigurationError: the mesh's configuration says otherwise.
        UnavailableError: it does not come up, with what its replicas said.
    """
    with mesh.deployed.turn(name, mesh.waits):
        version = mesh.resolved(name, version)
        before = mesh.deployed.get(name)
        own = replicas or (before.replicas if before else OwnReplicas())
        table = mesh.table(name, own, version)
        live = mesh.store.live_version(name) if mesh.store.has_live(name) else ""
        _check_space(name, version, live)
        run = mesh.run(name, table, version)
        if replicas is not None:
            mesh.check_wins(name, table, replicas)
        recorded = before is not None and (before.version, before.replicas) == (version, own)
        if recorded and live == version and _serves(mesh, run):
            return Deployment(name, version, live, changed=False, serves=mesh.running is not None)
        try:
            _put_into_service(mesh, run, table, tried=False)
        except RecMeshError as error:
            mesh.note(name, version, "failed to deploy", detail=str(error))
            raise
        mesh.store.make_live(name, version)
        mesh.written(name, version, own)
        mesh.record(name, version, "deployed")
        return Deployment(name, version, live, changed=True, serves=mesh.running is not None)


def roll_back_model(mesh: OwnersMesh, name: str) -> Deployment:
    """Puts the version that was live before into service again, by the steps from 3 on.

    It came up before, so it is not tried first.

    Raises:
        NotFoundError: there was none before, or it was removed.
        ConfigurationError: the mesh's configuration says otherwise.
        UnavailableError: it does not come up, with what its replicas said.
    """
    with mesh.deployed.turn(name, mesh.waits):
        live = mesh.resolved(name, "")
        version = mesh.store.previous_version(name)
        if version is None:
            raise NotFoundError(
                f"model {name} has nothing to roll back to: no version went live since the first "
                "one or a rollback"
            )
        _check_space(name, version, live)
        before = mesh.deployed.get(name)
        own = before.replicas if before else OwnReplicas()
        table = mesh.table(name, own, version)
        try:
            _put_into_service(mesh, mesh.run(name, table, version), table, tried=True)
        except RecMeshError as error:
            mesh.note(name, version, "failed to roll back", detail=str(error))
            raise
        mesh.store.go_back_to(name, version)
        mesh.written(name, version, own)
        mesh.record(name, version, "rolled back", detail=f"from {live}")
        return Deployment(name, version, live, changed=True, serves=mesh.running is not None)


def _check_space(name: str, version: str, live: str) -> None:
    if name == EMBEDDER and version != live:
        raise ConfigurationError(
            f"versions of {name} go live with their embedding space, which index and model change "
            f"together: recmesh embed switch, recmesh embed rollback"
        )


def _serves(mesh: OwnersMesh, run: ModelRun) -> bool:
    """Whether a mesh has nothing to do for it; true where none runs."""
    if mesh.running is None:
        return True
    with joined_cluster(mesh.home, mesh.running.ray_address):
        return runs(state_of(run.target.name), run)


def _put_into_service(mesh: OwnersMesh, run: ModelRun, table: ModelTable, *, tried: bool) -> None:
    """Steps 2 and 3. Nothing happens where no mesh runs."""
    if mesh.running is None:
        return
    timeout_s = DEPLOY_TIMEOUT_S + (INSTALL_TIMEOUT_S if table.pip else 0)
    with joined_cluster(mesh.home, mesh.running.ray_address):
        now = state_of(run.target.name)
        beside = state_of(application_of(run.name, run.version))
        if not (tried or runs(now, run) or (beside is not None and beside.state == RUNNING)):
            _try(mesh, run, table, timeout_s)
        served = mesh.served_version(run.name, now) if now else ""
        mesh.watch(f"rolling out {run.name}@{run.version}", [])
        try:
            roll_out(run, mesh.watched, timeout_s)
        except BaseException:
            # What went wrong matters more than that the cluster cannot put it right either.
            with contextlib.suppress(RayError, RecMeshError):
                _put_back(mesh, run, served)
            raise


def _try(mesh: OwnersMesh, run: ModelRun, table: ModelTable, timeout_s: float) -> None:
    one = table.model_copy(update={"min_replicas": 1, "max_replicas": 1})
    mesh.watch(f"trying {run.name}@{run.version}", [])
    trial = mesh.run(run.name, one, run.version, beside=TRIAL)
    try:
        roll_out(trial, mesh.watched, timeout_s)
    except UnavailableError as error:
        raise UnavailableError(str(error).replace(f"{trial.name}@", f"{run.name}@", 1)) from error
    finally:
        with contextlib.suppress(RayError):
            serve.delete(trial.target.name)


def _put_back(mesh: OwnersMesh, run: ModelRun, served: str) -> None:
    """Has Serve want again what served before; ends the application if nothing did."""
    mesh.watch(f"putting back {run.name}@{served}" if served else f"removing {run.name}", [])
    if not served:
        serve.delete(run.target.name)
        return
    before = mesh.deployed.get(run.name)
    table = mesh.table(run.name, before.replicas if before else OwnReplicas())
    roll_out(mesh.run(run.name, table, served), mesh.watched)
