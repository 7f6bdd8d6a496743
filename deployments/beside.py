"""A version of a model beside the live one, in a running mesh: to be tried, or compared.

Its replicas announce themselves as ``model@version``, so pages are made with it only where an
orchestrator asks for it by that name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ray import serve
from ray.exceptions import RayError

from recmesh.deployments.applications import (
    DEPLOY_TIMEOUT_S,
    RUNNING,
    ApplicationState,
    deploy,
    remove,
)
from recmesh.deployments.mesh_config import MeshConfig, declared_table
from recmesh.deployments.mesh_record import MeshRecord
from recmesh.deployments.model_app import application_of, model_application
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home


def deploy_beside(
    home: Home,
    running: MeshRecord,
    name: str,
    version: str,
    watch: Callable[[list[ApplicationState]], None] = lambda _: None,
) -> ApplicationState:
    """Runs a version beside the live one and waits until it answers; done twice, it is there once.

    One that does not come up, or whose start is given up with Ctrl-C, leaves nothing behind.

    Args:
        home: folder of the model's artifacts.
        running: the mesh.
        name: the model's.
        version: of its artifacts.
        watch: told the application's state while it starts.

    Raises:
        NotFoundError: there is no such model or version.
        UnavailableError: it does not come up, with what its replicas said, or the cluster does
            not answer.
    """
    config = MeshConfig.load(Path(running.config), home)
    # One is enough to begin with; load adds others.
    table = (config.models.get(name) or declared_table(name)).model_copy(update={"min_replicas": 1})
    target = model_application(
        name,
        table,
        home,
        config.replicas_host,
        version=version,
        beside=True,
        telemetry_table=config.telemetry,
    )
    with joined_cluster(home, running.ray_address):
        there = application_of(name, version) in serve.status().applications
        try:
            (state,) = deploy([target], DEPLOY_TIMEOUT_S, watch)
            if state.state != RUNNING:
                reason = state.message or f"{state.state} after {DEPLOY_TIMEOUT_S:.0f} s"
                raise UnavailableError(f"{state.name} does not come up: {reason}")
        except BaseException:
            if not there:
                # What went wrong matters more than that the cluster cannot clean up either.
                with contextlib.suppress(RayError, UnavailableError):
                    remove(name, version)
            raise
    return state


def remove_beside(home: Home, running: MeshRecord, name: str, version: str) -> bool:
    """Ends a version beside the live one, once its calls have; returns whether there was one.

    Raises:
        UnavailableError: the cluster does not answer.
    """
    with joined_cluster(home, running.ray_address):
        return remove(name, version)
