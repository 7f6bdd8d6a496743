"""The secure edge: who is refused and how, what callers may do, what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from benchmarks.refused_calls import (
    ATTEMPTS,
    DOCTOR,
    HEADERS,
    RECOMMEND,
    RECORD,
    UNKNOWN,
    Reply,
    Tried,
    ended,
    events,
    page,
    tried,
)
from benchmarks.secure_mesh import CALLERS, MESH_TOKEN, SecureMesh, secure_mesh
from recmesh.deployments.access_log import keep_small
from recmesh.deployments.caller import MESH_TOKEN_KEY
from recmesh.deployments.caller_table import METHODS, CallerTable
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.edge_files import edge_security
from recmesh.deployments.envoy_security import descriptors
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_host import orchestrator_answers
from recmesh.deployments.mesh_record import MeshRecord, only_mesh, recorded
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2
from tests.tls_certificates import Authority

JSON_PATH = RECOMMEND
OK = grpc.StatusCode.OK


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    return asyncio.run(tried(tmp_path_factory.mktemp("refused")))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_must_be_refused_is_refused_with_its_code(found: Tried, attempt: str) -> None:
    reply = found.replies[attempt]
    assert reply.code is ATTEMPTS[attempt][0], reply.words
    assert reply.words
    assert DOCTOR not in reply.words


def test_a_call_as_it_should_be_is_answered_after_all_that(found: Tried) -> None:
    assert found.good.code is OK, found.good.words


def test_the_access_log_says_who_called_what_and_names_nobody_else(found: Tried) -> None:
    lines = [json.loads(line) for line in found.written.splitlines() if line.startswith("{")]
    # Handshakes that failed are no calls; the quota's attempt makes six.
    assert len(lines) >= len(ATTEMPTS)
    last = lines[-1]
    assert (last["caller"], last["priority"]) == ("feed-backend", "critical")
    assert last["method"] == RECOMMEND[1:]
    assert last["grpc_code"] == "OK"
    assert last["bytes_sent"] > 0
    assert {line["caller"] for line in lines} == {None, *CALLERS}
    assert len({line["request_id"] for line in lines}) == len(lines)
    assert DOCTOR not in found.written


async def test_callers_are_known_by_certificate_or_token_and_json_is_understood(
    tmp_path: Path,
) -> None:
    async with secure_mesh(tmp_path) as mesh:
        for how in (
            mesh.channel("feed-backend"),
            mesh.channel(token=mesh.token()),
            # Whoever passes a token on calls for its owner.
            mesh.channel("event-pipeline", token=mesh.token()),
        ):
            assert (await ended(how, metadata=HEADERS[2:])).code is OK
        async with mesh.channel() as open_to_all:
            health = await health_pb2_grpc.HealthStub(open_to_all).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        async with mesh.channel("event-pipeline") as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=5
            )
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
            watching.cancel()
        async with mesh.channel("event-pipeline") as channel:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            async for said in reflection_pb2_grpc.ServerReflectionStub(
                channel
            ).ServerReflectionInfo(iter([request]), timeout=5):
                names = [one.name for one in said.list_services_response.service]
                assert "recmesh.v1.RecommendationService" in names
        async with mesh.channel("nightly-job") as channel:
            swipe = channel.stream_stream("/recmesh.v1.RecommendationService/Swipe")(timeout=5)
            assert await swipe.code() is grpc.StatusCode.PERMISSION_DENIED
        body = {"surface": "feed", "user_id": "reader", "page_size": 2}
        code, said = await posted(mesh, body, mesh.token())
        assert (code, len(said["recommendations"])) == (200, 2)
        assert said["recommendations"][0]["item_id"].startswith("i")
        code, said = await posted(mesh, body | {"surface": "search", "query": "x"}, mesh.token())
        assert code == 403
        assert said["code"] == grpc.StatusCode.PERMISSION_DENIED.value[0]
        assert "was not given the surface" in said["message"]
        assert (await posted(mesh, body, ""))[0] == 401
        assert (await posted(mesh, body, mesh.token(aud="other")))[0] == 401
        assert (await posted(mesh, body | {"surface": 7}, mesh.token()))[0] == 400


async def test_events_are_recorded_as_their_caller_or_as_whom_its_table_names(
    tmp_path: Path,
) -> None:
    async with secure_mesh(tmp_path) as mesh:
        for name in ("event-pipeline", "mobile-app"):
            reply = await ended(mesh.channel("event-pipeline"), RECORD, events(name))
            assert reply.code is OK, reply.words
        refused = await ended(mesh.channel("event-pipeline"), RECORD, events("web"))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        assert refused.words.startswith(
            "caller: event-pipeline may record events as event-pipeline, mobile-app;"
        )
        # From inside the mesh, as sessions do.
        inside = ((MESH_TOKEN_KEY, MESH_TOKEN),)
        replica = grpc.aio.insecure_channel(mesh.replica)
        assert (await ended(replica, RECORD, events("web"), inside)).code is OK


async def once(mesh: SecureMesh, caller: str, wanted: Callable[[Reply], bool]) -> Reply:
    """The first reply as it is wanted; else the last one of ten seconds."""
    for _ in range(200):
        reply = await ended(mesh.channel(caller))
        if wanted(reply):
            break
        await asyncio.sleep(0.05)
    return reply


async def test_another_caller_is_let_in_and_one_is_not_any_more_without_a_new_start(
    tmp_path: Path,
) -> None:
    async with secure_mesh(tmp_path) as mesh:
        security = mesh.edge._config.security
        assert security is not None
        strangers = {"stranger": CallerTable(methods=("RecommendationService",))}
        mesh.edge.reconfigure(
            replace(mesh.edge._config, security=replace(security, callers=strangers))
        )
        # The orchestrator's surfaces are still those of before: it refuses by itself.
        reply = await once(mesh, "stranger", lambda reply: "names no caller" in reply.words)
        assert "names no caller" in reply.words
        assert (await ended(mesh.channel("feed-backend"))).code is grpc.StatusCode.PERMISSION_DENIED


async def test_the_meshs_token_is_in_a_file_alone_and_another_needs_no_restart(
    tmp_path: Path,
) -> None:
    async with secure_mesh(tmp_path) as mesh:
        assert mesh.edge._directory is not None
        told = [file.read_text() for file in mesh.edge._directory.glob("*.json")]
        assert len(told) == 6
        assert not any(MESH_TOKEN in text for text in told)
        pid = mesh.edge.pid
        for token, code in ((f"not-{MESH_TOKEN}", UNKNOWN), (f"{MESH_TOKEN}\n", OK)):
            (tmp_path / "fresh").write_text(token)
            (tmp_path / "fresh").replace(tmp_path / "mesh-token")
            reply = await once(mesh, "feed-backend", lambda reply, code=code: reply.code is code)
            assert reply.code is code, reply.words
        assert mesh.edge.pid == pid


async def test_an_edge_without_its_meshs_token_is_not_the_callers_fault(tmp_path: Path) -> None:
    async with secure_mesh(tmp_path) as mesh:
        config = mesh.edge._config
        assert config.security is not None
        mesh.edge.reconfigure(
            replace(config, security=replace(config.security, mesh_token=tmp_path / "none"))
        )
        reply = await once(mesh, "feed-backend", lambda reply: "lacks the token" in reply.words)
        assert reply.code is grpc.StatusCode.UNAVAILABLE
        # Who is not known is told so all the same.
        assert (await ended(mesh.channel())).code is UNKNOWN


async def test_who_connects_and_says_nothing_is_cut_off(tmp_path: Path) -> None:
    async with secure_mesh(tmp_path) as mesh:
        config = mesh.edge._config
        mesh.edge.reconfigure(replace(config, limits=replace(config.limits, handshake_s=0.2)))
        host, _, port = mesh.address.rpartition(":")
        async with asyncio.timeout(10):
            while True:
                # The edge of before may take the connection still, and end with it.
                with contextlib.suppress(ConnectionError):
                    reader, writer = await asyncio.open_connection(host, int(port))
                    began_s = time.monotonic()
                    assert await reader.read() == b""
                    writer.close()
                    if time.monotonic() - began_s > 0.15:
                        break
                await asyncio.sleep(0.05)
        assert (await ended(mesh.channel("feed-backend"))).code is OK


async def posted(mesh: SecureMesh, body: dict[str, object], token: str) -> tuple[int, dict]:
    """As curl would."""
    trusted = ssl.create_default_context(cafile=mesh.credentials.authority)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(
        f"https://{mesh.address}{JSON_PATH}", json.dumps(body).encode(), headers
    )

    def post() -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else {"text": text}

    return await asyncio.to_thread(post)


async def test_a_quota_is_each_callers_own_and_a_new_certificate_needs_no_restart(
    tmp_path: Path,
) -> None:
    async with secure_mesh(tmp_path) as mesh:
        async with mesh.channel("nightly-job") as channel:
            call = channel.unary_unary(RECOMMEND)
            replies = [await call(page(), timeout=5).code() for _ in range(4)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in replies
        assert (await ended(mesh.channel("feed-backend"))).code is OK
        before = await asyncio.to_thread(served_certificate, mesh)
        mesh.credentials.edge.certificate.unlink()
        mesh.credentials.make(CALLERS, "")
        await until(lambda: served_certificate(mesh) != before)
        assert (await ended(mesh.channel("feed-backend"))).code is OK


def served_certificate(mesh: SecureMesh) -> str:
    host, _, port = mesh.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(done):  # noqa: ASYNC110 - no event crosses processes
            await asyncio.sleep(0.05)


def test_the_transcoder_knows_the_contract_and_all_that_it_imports() -> None:
    files = FileDescriptorSet.FromString(descriptors()).file
    names = [file.name for file in files]
    for file in files:
        assert all(names.index(other) < names.index(file.name) for other in file.dependency)
    services = {f"{file.package}.{one.name}" for file in files for one in file.service}
    assert {f"recmesh.v1.{name}" for name in METHODS} <= services
    # It can be read by who knows nothing else, and has no rules of validation.
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    asked = pool.FindMessageTypeByName("recmesh.v1.RecommendRequest")
    assert asked.fields_by_name["surface"].GetOptions().ListFields() == []
    assert len(descriptors()) < 30_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.run.mkdir(parents=True)
    return made


def secure_config(folder: Path, text: str = "") -> MeshConfig:
    file = folder / "mesh.toml"
    file.write_text(f'[edge]\nsecure = true\n{text}\n[callers.a]\nmethods = ["CatalogService"]\n')
    return MeshConfig.load(file)


def test_development_credentials_are_made_and_own_ones_are_held_against_each_other(
    tmp_path: Path, home: Home
) -> None:
    assert edge_security(MeshConfig.load(), home) is None
    made = edge_security(secure_config(tmp_path), home)
    assert made is not None
    assert made.token_keys == home.credentials.resolve() / "jwks.json"
    assert made.mesh_token == home.run.resolve() / "mesh-token"
    ours = Authority(tmp_path)
    one, other = ours.pair("edge"), ours.pair("other")
    files = 'authority = "{a}"\ncertificate = "{c}"\nkey = "{k}"\n'
    text = files.format(a=ours.file, c=one.certificate, k=one.key)
    own = edge_security(secure_config(tmp_path, text), home)
    assert own is not None
    assert (own.certificate, own.token_keys) == (one.certificate.resolve(), None)
    text = files.format(a=ours.file, c=one.certificate, k=other.key)
    with pytest.raises(ConfigurationError, match="not a certificate and its key"):
        edge_security(secure_config(tmp_path, text), home)
    with pytest.raises(ConfigurationError, match="is no JWKS"):
        edge_security(secure_config(tmp_path, f'token_keys = "{ours.file}"'), home)


@pytest.fixture
def secure_record(home: Home) -> Iterator[MeshRecord]:
    record = MeshRecord(os.getpid(), "127.0.0.1:1", "", "", "mesh.toml", secure=True)
    with only_mesh(home), recorded(home, record):
        yield record


async def test_commands_find_credentials_by_themselves(
    tmp_path: Path, home: Home, secure_record: MeshRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="RECMESH_CALLER_AUTHORITY"):
        edge_of(home)
    DevelopmentCredentials(home.credentials).make(CALLERS, "")
    with pytest.raises(NotFoundError, match="no credentials of caller operator"):
        edge_of(home)
    monkeypatch.setenv("RECMESH_CALLER_NAME", "feed-backend")
    assert edge_of(home).credentials is not None
    assert edge_of(home, "localhost:1").credentials is not None
    assert edge_of(home, "127.0.0.1:2").credentials is None
    (tmp_path / "mesh").mkdir()
    async with secure_mesh(tmp_path / "mesh") as mesh:
        monkeypatch.setenv("RECMESH_CALLER_AUTHORITY", str(mesh.credentials.authority))
        monkeypatch.setenv("RECMESH_CALLER_TOKEN", mesh.token())
        edge = edge_of(home, mesh.address)
        with edge.channel() as channel:
            call = channel.unary_unary(RECOMMEND)
            answer = await asyncio.to_thread(call, page(), timeout=5)
        assert recommendation_pb2.RecommendResponse.FromString(answer).recommendations
        assert (await ended(edge.aio_channel())).code is OK
        security = mesh.edge._config.security
        assert security is not None
        await orchestrator_answers(mesh.address, security)
    monkeypatch.delenv("RECMESH_CALLER_AUTHORITY")
    with pytest.raises(ConfigurationError, match="only shown to an edge that proves"):
        edge_of(home)


async def test_a_full_access_log_is_moved_away_and_written_anew(tmp_path: Path) -> None:
    async with secure_mesh(tmp_path) as mesh:
        moving = asyncio.create_task(
            keep_small(mesh.access_log, mesh.edge.reopen_logs, most_bytes=0, look_s=0.05)
        )
        await until(lambda: (tmp_path / "access.log.1").exists())
        await asyncio.sleep(0.1)
        moving.cancel()
        await ended(mesh.channel("feed-backend"))
    assert "feed-backend" in mesh.access_log.read_text()
