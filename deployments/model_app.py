"""A model as a Ray Serve application: Serve places and heals, the replica serves itself.

Serve's own proxies are off, because callers dial the replicas that the address book names
(ADR 0001).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import ray
import structlog
from ray import serve
from ray.serve.config import ProxyLocation

from recmesh.deployments.address_book import HEARTBEAT_S, Announcement, find_address_book
from recmesh.deployments.model_server import model_server
from recmesh.models.registry import loader
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home

log = structlog.get_logger(__name__)

STOP_GRACE_S = 2.0
ANSWER_S = 2.0


class ModelReplica:
    """Loads one model, serves it over gRPC on a free port of its node, and says so."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, model_name: str, artifacts_root: str, version: str | None = None
    ) -> None:
        """``version`` None is the live one.

        Raises:
            NotFoundError: there is no such model or version.
            ArtifactError: the version is damaged.
        """
        artifact = ArtifactStore(Path(artifacts_root)).load(model_name, version)
        self._server = model_server(loader(model_name)(artifact))
        host = ray.util.get_node_ip_address()
        port = await self._server.start(f"{host}:0")
        self._announcement = Announcement(
            application=model_name,
            replica_id=serve.get_replica_context().replica_id.unique_id,
            address=f"{host}:{port}",
            version=artifact.version,
        )
        self._heartbeat = asyncio.create_task(self._announce_for_ever())

    async def _announce_for_ever(self) -> None:
        while True:
            try:
                # Looked up each time: the book may have been started anew.
                async with asyncio.timeout(ANSWER_S):
                    book = await asyncio.to_thread(find_address_book)
                    await book.announce.remote(self._announcement)
            except Exception as error:  # noqa: BLE001 - the book may fail in any way and come back
                log.warning("address_book_silent", error=type(error).__name__)
            await asyncio.sleep(HEARTBEAT_S)

    def check_health(self) -> None:
        """Asked by Serve; a replica that no longer announces itself is replaced."""
        if self._heartbeat.done():
            raise UnavailableError("the replica no longer announces itself")

    async def __del__(self) -> None:
        """Awaited by Serve when the replica leaves: new calls go elsewhere, old ones end."""
        if not hasattr(self, "_heartbeat"):
            return
        self._heartbeat.cancel()
        try:
            async with asyncio.timeout(ANSWER_S):
                book = await asyncio.to_thread(find_address_book)
                await book.withdraw.remote(
                    self._announcement.application, self._announcement.replica_id
                )
        except Exception as error:  # noqa: BLE001 - silence withdraws it as well
            log.warning("not_withdrawn", error=type(error).__name__)
        # Callers ask the book once per heartbeat: serve until all of them have heard.
        await asyncio.sleep(2 * HEARTBEAT_S)
        await self._server.stop(STOP_GRACE_S)


def _application(name: str) -> str:
    return f"model-{name}"


def deploy_model(name: str, home: Home, replicas: int = 1, num_cpus: float = 1.0) -> Any:
    """Runs the model's live version on ``replicas`` replicas of ``num_cpus`` CPUs each.

    Returns Serve's handle once all replicas run. Deploying again replaces them one by one.
    An address book must have been started, or nobody learns of them.

    Raises:
        NotFoundError: the model is unknown or was never trained.
        RuntimeError: Serve could not start the replicas.
    """
    loader(name)
    version = ArtifactStore(home.artifacts).live_version(name)
    serve.start(proxy_location=ProxyLocation.Disabled)
    deployment = serve.deployment(ModelReplica).options(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": num_cpus},
        # Serve sees no requests, so it has none to wait for; the server drains its own.
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=2 * (ANSWER_S + STOP_GRACE_S),
    )
    return serve.run(
        deployment.bind(name, str(home.artifacts.resolve()), version),
        name=_application(name),
        route_prefix=None,
    )


def remove_model(name: str) -> None:
    """Ends the model's application; returns once its replicas are gone."""
    serve.delete(_application(name))
