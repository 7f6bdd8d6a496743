"""The process that holds a mesh on one machine: cluster, Milvus and edge, up and down again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve

from recmesh.deployments import applications, envoy_config
from recmesh.deployments.access_log import keep_small
from recmesh.deployments.address_book import AddressBookClient, Role
from recmesh.deployments.applications import DEPLOY_TIMEOUT_S, ApplicationState, Watch
from recmesh.deployments.catalog_app import NAME as CATALOG
from recmesh.deployments.catalog_app import catalog_application
from recmesh.deployments.development_credentials import host_in
from recmesh.deployments.discovery import follow
from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_files import edge_config, edge_security, make_credentials
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.ip_address import is_loopback
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_record import MeshRecord, only_mesh, recorded
from recmesh.deployments.mesh_token import kept_mesh_token
from recmesh.deployments.model_app import model_application
from recmesh.deployments.orchestrator_app import NAME, orchestrator_application
from recmesh.deployments.orchestrator_server import live_embedding
from recmesh.deployments.ray_cluster import join_cluster, leave_cluster, start_cluster
from recmesh.deployments.trial_applications import trial_applications
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError, NotFoundError, UnavailableError
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import MilvusProcess

log = structlog.get_logger(__name__)

EDGE_TIMEOUT_S = 20.0
POLL_S = 0.1
RENEW_S = 3600.0


@dataclass(frozen=True, slots=True)
class HostedMesh:
    """A mesh that serves."""

    record: MeshRecord
    applications: list[ApplicationState]
    """As they were when the edge opened; some may have failed."""
    reload: Callable[[], None]
    """Has a secure edge take on the callers that the configuration file names now."""


def targets(config: MeshConfig, home: Home, index_uri: str) -> list[serve.RunTarget]:
    """Everything the configuration names; models that were never trained are left out, said."""
    host = config.replicas_host
    found = [
        orchestrator_application(config, home, index_uri, host),
        catalog_application(config, home, index_uri, host),
    ]
    for name, table in config.models.items():
        if table.placement == "replicas":
            try:
                found.append(
                    model_application(name, table, home, host, telemetry_table=config.telemetry)
                )
            except NotFoundError as error:
                # The mesh serves without it and every page says so.
                log.warning("model left out", model=name, reason=str(error))
    return [*found, *trial_applications(config, home, host)]


async def _keep_alive(milvus: MilvusProcess) -> None:
    """Starts Milvus again, on the same port, whenever it ends; cancel to end."""
    while True:
        await asyncio.sleep(POLL_S)
        if milvus.alive:
            continue
        log.warning("milvus_died", uri=milvus.uri)
        try:
            await asyncio.to_thread(milvus.restart)
        except UnavailableError as error:
            log.error("milvus_not_started", reason=str(error))


@contextlib.asynccontextmanager
async def _milvus(config: MeshConfig, home: Home) -> AsyncIterator[str]:
    """Address of the vector index; empty when nothing is indexed."""
    if live_embedding(home) is None:
        yield ""
    elif config.vector_index.uri:
        yield config.vector_index.uri
    else:
        milvus = MilvusProcess(home.vectors / "milvus.db")
        await asyncio.to_thread(milvus.start)
        keeper = asyncio.create_task(_keep_alive(milvus), name="keep-milvus")
        try:
            yield milvus.uri
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await asyncio.to_thread(milvus.stop)


@contextlib.asynccontextmanager
async def _cluster(config: MeshConfig, home: Home) -> AsyncIterator[str]:
    """Address of the Ray cluster. One that was running before loses only our applications."""
    own = not config.ray.address
    # Both install signal handlers, so they must run in the main thread.
    if own:
        address = start_cluster(home, config.ray.num_cpus)
    else:
        join_cluster(home, address := config.ray.address)
    try:
        yield address
    finally:
        if not own:
            # A cluster that is gone has nothing left to remove.
            with contextlib.suppress(UnavailableError):
                for state in await asyncio.to_thread(applications.states):
                    await asyncio.to_thread(serve.delete, state.application)
        await asyncio.to_thread(leave_cluster)


async def _deployed(wanted: Sequence[serve.RunTarget], watch: Watch) -> list[ApplicationState]:
    """Deploys in a thread. Cancelled, waits until that thread has left the cluster alone."""
    cancelled = threading.Event()

    def watching(now: list[ApplicationState]) -> None:
        if cancelled.is_set():
            raise UnavailableError("stopped while deploying")
        watch("deploying", now)

    work = asyncio.create_task(
        asyncio.to_thread(applications.deploy, wanted, DEPLOY_TIMEOUT_S, watching)
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.gather(work, return_exceptions=True)
        raise


def _edge_itself(address: str, security: EdgeSecurity | None) -> grpc.aio.Channel:
    """To our own edge: its certificate is believed because we gave it to it."""
    if security is None:
        return grpc.aio.insecure_channel(address)
    chain = security.certificate.read_bytes()
    roots = chain + b"\n" + security.authority.read_bytes()
    name = ("grpc.ssl_target_name_override", host_in(security.certificate))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), [name])


async def orchestrator_answers(address: str, security: EdgeSecurity | None = None) -> None:
    """Returns once the orchestrator says through the edge that it serves."""
    end_s = time.monotonic() + EDGE_TIMEOUT_S
    async with _edge_itself(address, security) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                await health.Check(
                    health_pb2.HealthCheckRequest(),
                    timeout=max(end_s - time.monotonic(), 0.0),
                    wait_for_ready=True,
                )
                return
            except grpc.aio.AioRpcError as error:
                # Serve may call it running before its first announcement has arrived.
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > end_s:
                    raise UnavailableError(
                        f"the orchestrator does not answer on {address}: {error.details()}"
                    ) from error
            await asyncio.sleep(POLL_S)


async def _renew(file: Path, home: Home) -> None:
    """Makes development certificates anew before they end; Envoy sees that by itself."""
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            config = MeshConfig.load(file, home, secure=True)
            if not config.edge.certificate:
                await asyncio.to_thread(make_credentials, config, home)
        except ConfigurationError as error:
            log.error("credentials_not_renewed", reason=str(error))


def _reload(edge: EdgeSupervisor, file: Path, home: Home, *, secure: bool) -> None:
    """What cannot work changes nothing: whoever asked for it was told by the command."""
    if not secure:
        return
    try:
        config = MeshConfig.load(file, home, secure=True)
        security = edge_security(config, home)
    except ConfigurationError as error:
        log.error("edge_not_reconfigured", reason=str(error))
        return
    edge.reconfigure(edge_config(config, security))


@contextlib.asynccontextmanager
async def hosted_mesh(
    config: MeshConfig, config_file: Path, home: Home, watch: Watch
) -> AsyncIterator[HostedMesh]:
    """Runs the whole mesh while the context is open; ``config_file`` is what it was read from.

    Raises:
        NotFoundError: nothing was ingested.
        ConfigurationError: a mesh runs already, or a port or the configuration is wrong.
        UnavailableError: the orchestrator or the edge does not come up.
    """
    Dataset.open(home.dataset)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(only_mesh(home))
        stack.enter_context(kept_mesh_token(home, secure=config.edge.secure))
        security = edge_security(config, home)
        if security is None and not is_loopback(config.edge.address):
            log.warning(
                "edge_open_to_all",
                address=config.edge.address,
                fix="whoever reaches it may do everything; start it with: recmesh up --secure",
            )
        edge = EdgeSupervisor(edge_config(config, security))
        # First, because a port that is taken shows at once.
        await stack.enter_async_context(edge)
        watch("starting the vector index", [])
        index_uri = await stack.enter_async_context(_milvus(config, home))
        watch("starting Ray", [])
        ray_address = await stack.enter_async_context(_cluster(config, home))
        # It ends before what it leads to does; ending it twice is nothing.
        stack.push_async_callback(edge.stop)
        following = asyncio.create_task(
            follow(
                AddressBookClient().replicas,
                {
                    Role.ORCHESTRATOR: lambda found: edge.set_addresses(found.get(NAME, [])),
                    Role.CATALOG: lambda found: edge.set_addresses(
                        found.get(CATALOG, []), envoy_config.CATALOG
                    ),
                },
            ),
            name="follow-replicas",
        )
        stack.callback(following.cancel)
        if security is not None:
            for name, keeping in (
                ("renew-credentials", _renew(config_file, home)),
                ("access-log", keep_small(security.access_log, edge.reopen_logs)),
            ):
                stack.callback(asyncio.create_task(keeping, name=name).cancel)
        states = await _deployed(targets(config, home, index_uri), watch)
        orchestrator = next(state for state in states if state.name == NAME)
        if orchestrator.state != applications.RUNNING:
            raise UnavailableError(f"the orchestrator does not run: {orchestrator.message}")
        watch("opening the edge", states)
        edge.set_addresses([replica.address for replica in orchestrator.replicas])
        await edge.wait_ready(EDGE_TIMEOUT_S)
        await orchestrator_answers(edge.address, security)
        failed = tuple(state.name for state in states if state.state != applications.RUNNING)
        record = MeshRecord(
            os.getpid(),
            edge.address,
            ray_address,
            index_uri,
            str(config_file),
            failed,
            config.edge.secure,
            config.telemetry.otlp_endpoint,
            own_cluster=not config.ray.address,
        )
        stack.enter_context(recorded(home, record))
        reload = partial(_reload, edge, config_file, home, secure=config.edge.secure)
        yield HostedMesh(record, states, reload)
