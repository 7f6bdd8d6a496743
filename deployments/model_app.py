"""A model as a Ray Serve application: Serve places and heals, the replica serves itself.

Serve's own proxies are off, because callers dial the replicas that the address book names
(ADR 0001).
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import serve

from recmesh.deployments.address_book import Role
from recmesh.deployments.announcer import Announcer
from recmesh.deployments.mesh_config import ModelTable, TelemetryTable
from recmesh.deployments.mesh_token import mesh_token
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.ray_loopback import replica_host
from recmesh.deployments.replica_scaling import INFLIGHT, SERVE_BUILDS, deployment_options
from recmesh.deployments.spoken_versions import SpokenVersions
from recmesh.deployments.telemetry import telemetry
from recmesh.models.model import Model
from recmesh.models.registry import check_known, loader
from recmesh.orchestrator.model_panel import BESIDE
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.home import Home

PREFIX = "model-"
"""Begins the Serve application's name of every model."""
TRIAL = "trial"
"""Stands for the version where one is only started to see whether it comes up."""
SHORT = 12
"""Letters of a version in the name of its application beside the live one."""


def application_of(name: str, version: str = "") -> str:
    """The Serve application's name of a model; with a version, of that one beside the live one."""
    return PREFIX + name + (BESIDE + version[:SHORT] if version else "")


class ModelReplica:
    """Loads one model, serves it over gRPC on a free port of its node, and says so."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        model_name: str,
        home_root: str,
        version: str,
        host: str,
        announced_as: str = "",
        role: str = Role.MODEL,
        telemetry_table: dict[str, Any] | None = None,
    ) -> None:
        """Raises what loading the artifact raises; Serve tells it as the reason.

        Args:
            model_name: which model.
            home_root: folder of its artifacts.
            version: of them.
            host: to listen on; empty: the node's address.
            announced_as: name in the address book; empty: the model's.
            role: there.
            telemetry_table: of the configuration; None: its defaults.
        """
        context = serve.get_replica_context()
        self._telemetry = ExitStack()
        self._telemetry.enter_context(
            telemetry(
                telemetry_table or {},
                announced_as or model_name,
                instance=context.replica_id.unique_id,
                version=version,
                on_ray=True,
            )
        )
        home = Home(Path(home_root))
        model = self.load(model_name, home, version)
        methods = ModelMethods(model)
        await methods.warm_up()
        self._following: asyncio.Task[None] | None = None
        if model_name == EMBEDDER:
            self._following = await SpokenVersions(home, methods).start()
        self._server = model_server(methods, mesh_token(home))
        host = replica_host(host)
        port = await self._server.start(f"{host}:0")
        self._announcer = Announcer(
            self._server,
            role=Role(role),
            application=announced_as or model_name,
            replica_id=context.replica_id.unique_id,
            address=f"{host}:{port}",
            version=model.description.version,
            build=context.code_version or "",
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
        if hasattr(self, "_telemetry"):
            await asyncio.to_thread(self._telemetry.close)


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A version of a model, as Serve is to run it."""

    target: serve.RunTarget
    name: str
    """What its replicas announce."""
    version: str
    build: str
    """Announced by replicas that run exactly this."""
    token: str = field(default="", repr=False)
    """Of the mesh; its replicas want it."""


def model_run(
    name: str,
    table: ModelTable,
    home: Home,
    host: str = "",
    *,
    version: str = "",
    beside: str = "",
    telemetry_table: TelemetryTable | None = None,
) -> ModelRun:
    """A version of a model on ``host``.

    Args:
        name: the model's.
        table: how many replicas, and what each needs.
        home: folder of its artifacts.
        host: to listen on; empty: the node's address.
        version: to load; empty: ``table.version``, and where that is empty, the live one.
        beside: an application of its own, announced as ``name@beside``: whoever asks for the
            model does not get it.
        telemetry_table: of the configuration; None: its defaults.

    Raises:
        NotFoundError: the model is unknown, was never trained, or lacks that version.
    """
    check_known(name)
    store = ArtifactStore(home.artifacts)
    version = version or table.version or store.live_version(name)
    store.check_exists(name, version)
    announced_as = name + (BESIDE + beside if beside else "")
    role = Role.TRIAL if beside == TRIAL else Role.MODEL
    told = (telemetry_table or TelemetryTable()).model_dump()
    arguments = (name, str(home.root.resolve()), version, host, announced_as, role.value, told)
    options = deployment_options(
        arguments,
        min_replicas=table.min_replicas,
        max_replicas=table.max_replicas,
        num_cpus=table.num_cpus,
        num_gpus=table.num_gpus,
        pip=table.pip,
        target_inflight=table.target_inflight,
        node_labels=table.node_labels,
    )
    # Named as its replicas announce themselves, so that its state can be told from theirs.
    with SERVE_BUILDS:
        deployment = serve.deployment(ModelReplica).options(name=announced_as, **options)
    target = serve.RunTarget(
        deployment.bind(*arguments), name=application_of(name, beside), route_prefix=None
    )
    return ModelRun(target, announced_as, version, options["version"], mesh_token(home))


def model_application(
    name: str,
    table: ModelTable,
    home: Home,
    host: str = "",
    *,
    version: str = "",
    beside: bool = False,
    telemetry_table: TelemetryTable | None = None,
) -> serve.RunTarget:
    """What Serve is to run for a model, alone or ``beside`` the live one.

    See :func:`model_run`; raises as it does.
    """
    if beside and not version:
        version = ArtifactStore(home.artifacts).live_version(name)
    return model_run(
        name,
        table,
        home,
        host,
        version=version,
        beside=version if beside else "",
        telemetry_table=telemetry_table,
    ).target
