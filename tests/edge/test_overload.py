"""More calls than can be answered: the important ones are, the others are told to come later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from recmesh.deployments.caller import PRIORITY_KEY
from recmesh.deployments.edge_services import RECOMMENDATION
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.orchestrator.overload.adaptive_limit import AdaptiveLimit
from recmesh.orchestrator.overload.priority import Priority
from recmesh.orchestrator.overload.priority_gate import PriorityGate
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

AT_ONCE = 4
TAKES_S = 0.01
REQUEST = recommendation_pb2.RecommendRequest(surface="feed", user_id="u")


class Overloaded:
    """A server that answers ``AT_ONCE / TAKES_S`` calls a second, however many come."""

    def __init__(self) -> None:
        self.gate = PriorityGate(AdaptiveLimit(), most_waiting=AT_ONCE)
        self.gate.limit.at_once = AT_ONCE
        self.gate.limit.answered = lambda _: None  # type: ignore[method-assign] # it stays
        self.server = GrpcServer([RECOMMENDATION.full_name])
        self.most = 0
        methods = {"Recommend": self.answer}
        add_service(self.server, RECOMMENDATION, methods, checked=True, gate=self.gate)

    async def answer(
        self, _: recommendation_pb2.RecommendRequest, remaining_s: float
    ) -> recommendation_pb2.RecommendResponse:
        self.most = max(self.most, self.gate.working)
        await asyncio.sleep(TAKES_S)
        return recommendation_pb2.RecommendResponse()


@pytest.fixture
async def overloaded() -> AsyncIterator[tuple[Overloaded, grpc.aio.Channel]]:
    made = Overloaded()
    port = await made.server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield made, channel
    await made.server.stop(1.0)


async def outcome(channel: grpc.aio.Channel, priority: str) -> str:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    try:
        await stub.Recommend(REQUEST, timeout=30, metadata=((PRIORITY_KEY, priority),))
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_the_important_are_answered_and_the_rest_come_later(
    overloaded: tuple[Overloaded, grpc.aio.Channel],
) -> None:
    server, channel = overloaded
    asked = ["batch"] * 60 + ["normal"] * 60 + ["critical"] * AT_ONCE
    answers = await asyncio.gather(*(outcome(channel, priority) for priority in asked))
    by = Counter(zip(asked, answers, strict=True))
    assert by["critical", "OK"] == AT_ONCE
    assert by["batch", "RESOURCE_EXHAUSTED"] == server.gate.shed[Priority.BATCH] > 0
    assert set(answers) == {"OK", "RESOURCE_EXHAUSTED"}
    # Half as many places more, for critical ones alone.
    assert server.most <= AT_ONCE * 3 // 2
    # Over, and nothing is left of it.
    assert await outcome(channel, "batch") == "OK"
    assert server.gate.working == 0
