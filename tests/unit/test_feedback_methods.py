"""Streams of events: order, bounds, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.caller import CALLER_KEY, EVENT_CALLERS_KEY, set_current_caller
from recmesh.deployments.event_check import EventCheck
from recmesh.deployments.feedback_methods import STREAM_EVENTS, FeedbackMethods
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.database import Database
from recmesh.storage.errors import ForbiddenError, InvalidRequestError, UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import common_pb2, feedback_pb2

NOW_S = 1_760_000_000


@pytest.fixture
def methods(tmp_path: Path) -> Iterator[FeedbackMethods]:
    database = Database.for_writing("", tmp_path / "recmesh.db")
    check = EventCheck(AttributionTokens(SigningKeys.random()), set)
    made = FeedbackMethods(EventLog(database), check, clock=lambda: NOW_S)
    yield made
    made.close()
    database.close()


def request(number: int, caller: str = "app", **fields: object) -> feedback_pb2.StreamEventsRequest:
    event = feedback_pb2.Event(
        event_id=f"e{number}",
        event_type=common_pb2.EVENT_TYPE_CLICK,
        user_id="u",
        item_id="i",
        time=Timestamp(seconds=NOW_S),
        **fields,  # type: ignore[arg-type]
    )
    return feedback_pb2.StreamEventsRequest(caller=caller, event=event)


class Source:
    """A caller's stream that counts what was taken of it."""

    def __init__(self, requests: list[feedback_pb2.StreamEventsRequest]) -> None:
        self.requests = requests
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[feedback_pb2.StreamEventsRequest]:
        for each in self.requests:
            self.taken += 1
            yield each


async def test_who_does_not_listen_is_not_read_on(methods: FeedbackMethods) -> None:
    source = Source([request(number) for number in range(2000)])
    responses = methods.streams["StreamEvents"](source)
    first = await anext(responses)
    assert isinstance(first, feedback_pb2.StreamEventsResponse)
    taken = -1
    while taken != source.taken:
        taken = source.taken
        for _ in range(100):
            await asyncio.sleep(0)
    # What was written, what waits, and the one that finds no room.
    assert STREAM_EVENTS < taken <= 2 * STREAM_EVENTS + 2
    rest = [response.outcome.event_id async for response in responses]
    assert [first.outcome.event_id, *rest] == [f"e{number}" for number in range(2000)]
    assert methods.log.read().events.num_rows == 2000


async def test_a_stream_that_is_left_is_read_no_further(methods: FeedbackMethods) -> None:
    source = Source([request(number) for number in range(2000)])
    responses = methods.streams["StreamEvents"](source)
    await anext(responses)
    await responses.aclose()
    taken = source.taken
    for _ in range(100):
        await asyncio.sleep(0)
    assert source.taken == taken < 2000


async def test_what_came_before_a_bad_message_is_answered(methods: FeedbackMethods) -> None:
    source = Source([request(1), request(2), request(3, query="nul\0"), request(4)])
    answered = []
    with pytest.raises(InvalidRequestError, match=r"event\.query: must not hold"):  # noqa: PT012
        async for response in methods.streams["StreamEvents"](source):
            answered.append(response.outcome.event_id)  # noqa: PERF401 - kept when it raises
    assert answered == ["e1", "e2"]


GATEWAY = ((CALLER_KEY, "gateway"), (EVENT_CALLERS_KEY, "app,web"))


async def test_a_batch_as_somebody_else_is_refused_whole(methods: FeedbackMethods) -> None:
    def batch(caller: str) -> feedback_pb2.RecordEventsRequest:
        return feedback_pb2.RecordEventsRequest(caller=caller, events=[request(1).event])

    set_current_caller(GATEWAY)
    for name in ("gateway", "app", "web"):
        (outcome,) = (await methods.record_events(batch(name), 1.0)).outcomes
        assert outcome.status == feedback_pb2.EVENT_STATUS_ACCEPTED
    for name in ("", "ap", "app,web", "Gateway"):
        with pytest.raises(ForbiddenError, match=r"^caller: gateway may .* as gateway, app, web;"):
            await methods.record_events(batch(name), 1.0)
    set_current_caller([*GATEWAY[:1], (EVENT_CALLERS_KEY, "*")])
    await methods.record_events(batch("other"), 1.0)
    # Nobody says who calls: the edge is not secure, or the call comes from inside the mesh.
    set_current_caller(())
    await methods.record_events(batch("anybody"), 1.0)
    recorded = methods.log.read().events["caller"].to_pylist()
    assert recorded == ["gateway", "app", "web", "other", "anybody"]


async def test_a_stream_ends_where_somebody_else_is_named(methods: FeedbackMethods) -> None:
    set_current_caller(GATEWAY)
    source = Source([request(1), request(2, "web"), request(3, "other"), request(4)])
    answered = []
    with pytest.raises(ForbiddenError, match="caller: gateway may"):  # noqa: PT012
        async for response in methods.streams["StreamEvents"](source):
            answered.append(response.outcome.event_id)  # noqa: PERF401 - kept when it raises
    assert answered == ["e1", "e2"]
    assert methods.log.read().events.num_rows == 2


async def test_a_database_that_fails_ends_the_stream(methods: FeedbackMethods) -> None:
    methods.close()
    with pytest.raises(UnavailableError):
        await anext(methods.streams["StreamEvents"](Source([request(1)])))
