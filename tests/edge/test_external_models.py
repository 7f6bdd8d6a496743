"""What clients of a model do when its addresses misbehave: real servers, real connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.hedging import LEAST_KNOWN, SHARE, HedgeBudget
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import common_pb2, model_pb2, model_pb2_grpc
from tests.tls_certificates import Authority, Pair

CALLERS = 8
SLOW_S = 0.3
WARM = 400
"""Calls after which it is known what is usual, and some second attempts are saved up."""
REQUEST = model_pb2.ScoreRequest(user=common_pb2.UserFeatures(user_id="u"), item_ids=["a"])
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Elsewhere(model_pb2_grpc.ModelServiceServicer):
    """A model that somebody else wrote, with or without the health service."""

    def __init__(self) -> None:
        self.address = ""
        self.calls = 0
        self.cancelled = 0
        self.slow_begun = asyncio.Event()
        """A call that takes its time has arrived."""
        self.ended = asyncio.Event()
        """A call was cancelled."""
        self.takes_s = 0.0
        self.version = "1"
        self.health = health.aio.HealthServicer()

    async def Score(
        self, request: model_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> model_pb2.ScoreResponse:
        self.calls += 1
        if self.takes_s:
            self.slow_begun.set()
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            self.ended.set()
            raise
        return model_pb2.ScoreResponse(scores=[1.0] * len(request.item_ids), version=self.version)


@contextlib.asynccontextmanager
async def running(
    credentials: grpc.ServerCredentials | None = None, with_health: bool = True
) -> AsyncIterator[Elsewhere]:
    server = grpc.aio.server()
    model = Elsewhere()
    model_pb2_grpc.add_ModelServiceServicer_to_server(model, server)
    if with_health:
        health_pb2_grpc.add_HealthServicer_to_server(model.health, server)
        await model.health.set("", SERVING)
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    model.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield model
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def client_of(
    *models: Elsewhere, tls: ClientTls | None = None
) -> AsyncIterator[GrpcModelClient]:
    client = GrpcModelClient("theirs", [m.address for m in models], pinned=True, tls=tls)
    try:
        yield client
    finally:
        await client.close()


async def test_an_address_that_does_not_serve_gets_no_calls_until_it_does() -> None:
    async with running() as ill, running() as well, client_of(ill, well) as client:
        await ill.health.set("", NOT_SERVING)
        for _ in range(30):
            await client.score(REQUEST, timeout_s=5)
        assert (ill.calls, well.calls) == (0, 30)
        await ill.health.set("", SERVING)
        await well.health.set("", NOT_SERVING)
        async with asyncio.timeout(20):
            while not ill.calls:
                with contextlib.suppress(UnavailableError):
                    await client.score(REQUEST, timeout_s=5)


async def test_when_none_serves_that_is_said() -> None:
    async with running() as ill, client_of(ill) as client:
        await ill.health.set("", NOT_SERVING)
        with pytest.raises(UnavailableError, match=f"{ill.address} says that it does not serve"):
            await client.score(REQUEST, timeout_s=5)
        assert ill.calls == 0


async def test_a_server_without_health_is_taken_as_one_that_serves() -> None:
    async with running(with_health=False) as model, client_of(model) as client:
        for _ in range(3):
            await client.score(REQUEST, timeout_s=5)
        assert model.calls == 3


async def slow_answers(calls: int) -> tuple[int, Elsewhere]:
    """How many calls are answered by one of three replicas that has become slow."""
    async with (
        running() as slow,
        running() as second,
        running() as third,
        client_of(slow, second, third) as client,
    ):
        slow.version = "slow"
        answered_by: Counter[str] = Counter()

        async def caller(share: int) -> None:
            for _ in range(share):
                answered_by[(await client.score(REQUEST, timeout_s=30)).version] += 1

        await asyncio.gather(*(caller(WARM // CALLERS) for _ in range(CALLERS)))
        slow.takes_s = SLOW_S
        answered_by.clear()
        await asyncio.gather(*(caller(calls // CALLERS) for _ in range(CALLERS)))
        return answered_by["slow"], slow


async def test_a_slow_replica_keeps_few_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    late, slow = await slow_answers(1_600)
    assert slow.cancelled > 0, "its calls are answered by others, and end there"
    assert late < 1_600 / 100, "so that the 99th percentile is not its latency"
    assert slow.cancelled <= SHARE * (WARM + 1_600)
    monkeypatch.setattr(HedgeBudget, "spend", lambda _: False)
    unhedged, slow = await slow_answers(160)
    assert slow.cancelled == 0
    assert unhedged > 160 / 100


async def test_a_model_that_is_slow_everywhere_is_not_asked_twice_as_often() -> None:
    async with running() as one, running() as other, client_of(one, other) as client:
        for _ in range(LEAST_KNOWN):
            await client.score(REQUEST, timeout_s=30)
        one.takes_s = other.takes_s = 0.02
        before = one.calls + other.calls
        calls = 200
        for _ in range(calls // CALLERS):
            await asyncio.gather(*(client.score(REQUEST, timeout_s=30) for _ in range(CALLERS)))
        assert one.calls + other.calls - before - calls <= SHARE * (calls + LEAST_KNOWN)


async def test_whoever_no_longer_waits_leaves_no_call_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as one, running() as other, client_of(one, other) as client:
        monkeypatch.setattr(HedgeBudget, "spend", lambda _: False)
        for _ in range(LEAST_KNOWN):
            await client.score(REQUEST, timeout_s=30)
        monkeypatch.setattr(HedgeBudget, "spend", lambda _: True)
        one.takes_s = other.takes_s = 60.0
        asking = asyncio.create_task(client.score(REQUEST, timeout_s=60))
        async with asyncio.timeout(20):
            await asyncio.gather(one.slow_begun.wait(), other.slow_begun.wait())
            asking.cancel()
            await asyncio.gather(one.ended.wait(), other.ended.wait())
            with pytest.raises(asyncio.CancelledError):
                await asking


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Authority, Pair]:
    authority = Authority(tmp_path)
    return authority, authority.pair("model.example")


def server_of(pair: Pair, callers: Authority | None = None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        callers.file.read_bytes() if callers else None,
        require_client_auth=callers is not None,
    )


async def reason(tls: ClientTls | None, credentials: grpc.ServerCredentials | None) -> str:
    async with running(credentials) as model, client_of(model, tls=tls) as client:
        with pytest.raises(UnavailableError) as error:
            await client.score(REQUEST, timeout_s=5)
        assert model.calls == 0
        return str(error.value)


async def test_a_certificate_of_somebody_else_is_refused(
    pair: tuple[Authority, Pair], tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    tls = ClientTls(authority=str(other.file), server_name="model.example")
    said = await reason(tls, server_of(pair[1]))
    assert f"not to be believed by {other.file} (unable to get local issuer certificate)" in said
    assert "name in tls.authority who signed it" in said


async def test_a_certificate_for_another_name_is_refused(pair: tuple[Authority, Pair]) -> None:
    said = await reason(ClientTls(authority=str(pair[0].file)), server_of(pair[1]))
    assert "has a certificate that is not for 127.0.0.1: name in tls.server_name" in said


async def test_a_server_without_tls_is_said_to_be_one(pair: tuple[Authority, Pair]) -> None:
    said = await reason(ClientTls(authority=str(pair[0].file)), None)
    assert "speaks no TLS: take the table tls away" in said


async def test_a_server_that_wants_tls_is_said_to_be_one(pair: tuple[Authority, Pair]) -> None:
    assert "it wants TLS: add a table tls" in await reason(None, server_of(pair[1]))


async def test_a_server_that_wants_to_know_its_callers_is_said_to_be_one(
    pair: tuple[Authority, Pair],
) -> None:
    tls = ClientTls(authority=str(pair[0].file), server_name="model.example")
    said = await reason(tls, server_of(pair[1], callers=pair[0]))
    assert "it does not believe tls.certificate, or wants one" in said
