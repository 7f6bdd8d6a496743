"""A model as a Ray Serve application: Serve places and heals, the replica serves itself.

Serve's own proxies are off, because callers dial the replicas that the address book names
(ADR 0001).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import ray
from ray import serve

from recmesh.deployments.address_book import Role
from recmesh.deployments.announcer import Announcer
from recmesh.deployments.mesh_config import ModelTable
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.replica_scaling import INFLIGHT, deployment_options
from recmesh.deployments.spoken_versions import SpokenVersions
from recmesh.models.model import Model
from recmesh.models.registry import check_known, loader
from recmesh.orchestrator.index_source import EMBEDDER
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.home import Home

PREFIX = "model-"
"""Begins the Serve application's name of every model."""


class ModelReplica:
    """Loads one model, serves it over gRPC on a free port of its node, and says so."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, model_name: str, home_root: str, version: str, host: str
    ) -> None:
        """Listens on ``host``; empty: the node's address.

        Raises what loading the artifact raises; Serve tells it as the reason.
        """
        home = Home(Path(home_root))
        model = self.load(model_name, home, version)
        methods = ModelMethods(model)
        await methods.warm_up()
        self._following: asyncio.Task[None] | None = None
        if model_name == EMBEDDER:
            self._following = await SpokenVersions(home, methods).start()
        self._server = model_server(methods)
        host = host or ray.util.get_node_ip_address()
        port = await self._server.start(f"{host}:0")
        self._announcer = Announcer(
            self._server,
            role=Role.MODEL,
            application=model_name,
            replica_id=serve.get_replica_context().replica_id.unique_id,
            address=f"{host}:{port}",
            version=model.description.version,
        )

    @staticmethod
    def load(model_name: str, home: Home, version: str) -> Model:
        """The model to serve."""
        artifact = ArtifactStore(home.artifacts).load(model_name, version)
        return loader(model_name)(artifact)

    async def check_health(self) -> None:
        """Asked by Serve; a replica that no longer announces itself is replaced."""
        self._announcer.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve; see :mod:`recmesh.deployments.replica_scaling`."""
        return {INFLIGHT: self._server.meter.take_mean_inflight()}

    async def __del__(self) -> None:
        """Awaited by Serve when the replica leaves: new calls go elsewhere, old ones end."""
        if hasattr(self, "_announcer"):
            await self._announcer.leave()
            if self._following is not None:
                self._following.cancel()


def model_application(name: str, table: ModelTable, home: Home, host: str = "") -> serve.RunTarget:
    """What Serve is to run for a model: ``table.version``, or the live one, on ``host``.

    Raises:
        NotFoundError: the model is unknown, was never trained, or lacks that version.
    """
    check_known(name)
    store = ArtifactStore(home.artifacts)
    version = table.version or store.live_version(name)
    store.check_exists(name, version)
    arguments = (name, str(home.root.resolve()), version, host)
    deployment = serve.deployment(ModelReplica).options(
        name=name,
        **deployment_options(
            arguments,
            min_replicas=table.min_replicas,
            max_replicas=table.max_replicas,
            num_cpus=table.num_cpus,
            target_inflight=table.target_inflight,
        ),
    )
    return serve.RunTarget(
        deployment.bind(*arguments),
        name=PREFIX + name,
        route_prefix=None,
    )
