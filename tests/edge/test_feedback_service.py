"""Sending events as callers do: over a real connection, into a real database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.cli.written_data import opened_database
from recmesh.deployments.event_check import FUTURE_S, PAST_S, TOKEN_S
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.event_log import ERASED, PAYLOAD_DIFFERS, EventLog
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)
from tests.small_world import ingested_home

ACCEPTED, DUPLICATE = ("ACCEPTED", ""), ("DUPLICATE", "")
CLICK = common_pb2.EVENT_TYPE_CLICK
IMPRESSION = common_pb2.EVENT_TYPE_IMPRESSION
SEARCH = common_pb2.EVENT_TYPE_SEARCH
FOLLOW = common_pb2.EVENT_TYPE_FOLLOW


@dataclass
class Caller:
    """A backend service."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.recommendations = recommendation_pb2_grpc.RecommendationServiceStub(self.channel)

    async def record(
        self, *events: feedback_pb2.Event, caller: str = "app"
    ) -> list[tuple[str, str]]:
        request = feedback_pb2.RecordEventsRequest(caller=caller, events=events)
        answer = await self.feedback.RecordEvents(request, timeout=30)
        assert [o.event_id for o in answer.outcomes] == [e.event_id for e in events]
        return [said(outcome) for outcome in answer.outcomes]

    async def page(self) -> recommendation_pb2.RecommendResponse:
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id="reader")
        page: recommendation_pb2.RecommendResponse = await self.recommendations.Recommend(
            request, timeout=10
        )
        return page


def said(outcome: feedback_pb2.EventOutcome) -> tuple[str, str]:
    name = feedback_pb2.EventStatus.Name(outcome.status)
    return name.removeprefix("EVENT_STATUS_"), outcome.reason


@asynccontextmanager
async def calling(home: Home, database_uri: str = "") -> AsyncIterator[Caller]:
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0", database_uri) as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        yield Caller(channel)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    return ingested_home(tmp_path)


@pytest.fixture
async def caller(home: Home) -> AsyncIterator[Caller]:
    async with calling(home) as made:
        yield made


def at(seconds_from_now: float = -10) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds_from_now))


def event(event_id: str, **fields: Any) -> feedback_pb2.Event:
    defaults: dict[str, Any] = {"event_type": CLICK, "user_id": "reader", "item_id": "i1"}
    if "time" not in fields:
        defaults["time"] = at()
    return feedback_pb2.Event(event_id=event_id, **(defaults | fields))


def rows(home: Home) -> list[dict[str, Any]]:
    database = opened_database(home)
    assert database is not None
    found: list[dict[str, Any]] = EventLog(database).read().events.to_pylist()
    database.close()
    return found


async def recorded(home: Home) -> list[dict[str, Any]]:
    return await asyncio.to_thread(rows, home)


async def test_events_are_recorded_once_and_answered_in_order(
    home: Home, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_DATABASE__URI", database_uri)
    moment = at()
    first = event("e1", time=moment, rank=2, surface="feed", dwell=Duration(seconds=3))
    other = event("e1", time=moment, rank=3)
    async with calling(home, database_uri) as caller:
        outcomes = await caller.record(first, event("e2"), first, other)
        assert outcomes == [ACCEPTED, ACCEPTED, DUPLICATE, ("QUARANTINED", PAYLOAD_DIFFERS)]
        assert await caller.record(first, caller="other") == [ACCEPTED]
    async with calling(home, database_uri) as caller:
        assert await caller.record(first, other) == [DUPLICATE, ("QUARANTINED", PAYLOAD_DIFFERS)]
        one, _, foreign = await recorded(home)
    assert (one["event_id"], one["rank"], one["surface"], one["dwell_s"]) == ("e1", 2, "feed", 3)
    assert one["time"].timestamp() == moment.seconds
    assert 0 < (one["received_at"] - one["time"]).total_seconds() < 300
    assert foreign["caller"] == "other"


async def test_what_is_not_believed_is_quarantined_alone(caller: Caller, home: Home) -> None:
    written = [
        catalog_pb2.Item(item_id=name, content_type="article", title="t") for name in ("n1", "n2")
    ]
    await caller.catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=written))
    gone = catalog_pb2.DeleteItemsRequest(item_ids=["n2", "i3"])
    await caller.catalog.DeleteItems(gone)
    outcomes = await caller.record(
        event("known"),
        event("written", item_id="n1"),
        event("never", item_id="never"),
        event("deleted", item_id="n2"),
        event("ingested-and-deleted", item_id="i3"),
        event("colleague", item_id="colleague", surface="network"),
        event("author", item_id="Some Author", event_type=FOLLOW),
        event("search", item_id="", event_type=SEARCH, query="heart"),
        event("ahead", time=at(FUTURE_S + 60)),
        event("little-ahead", time=at(FUTURE_S - 60)),
        event("late", time=at(-PAST_S - 60)),
        event("little-late", time=at(-PAST_S + 60)),
        event("no-item", item_id=""),
        event("search-with-item", event_type=SEARCH, query="heart"),
        event("search-for-nothing", item_id="", event_type=SEARCH),
        event("long-dwell", dwell=Duration(seconds=86_401)),
        event("low-rank", rank=10_001),
    )
    unknown = ("QUARANTINED", "item_id: not in the catalogue")
    assert outcomes[:8] == [ACCEPTED, ACCEPTED, unknown, unknown, unknown] + [ACCEPTED] * 3
    status = [name for name, _ in outcomes[8:12]]
    assert status == ["QUARANTINED", "ACCEPTED", "QUARANTINED", "ACCEPTED"]
    assert "in the future; at most 3600 s are accepted" in outcomes[8][1]
    assert "ago; at most 2592000 s are accepted" in outcomes[10][1]
    assert [reason for _, reason in outcomes[12:]] == [
        "item_id: required for event type click",
        "item_id: must be empty for a search",
        "query: required for a search",
        "dwell: 86401 s; at most 86400 s are accepted",
        "rank: 10001; at most 10000 is accepted",
    ]
    kept = {row["event_id"] for row in await recorded(home)}
    assert kept == {
        *("known", "written", "colleague", "author", "search", "little-ahead", "little-late")
    }


async def test_a_thousand_events_at_once(caller: Caller, home: Home) -> None:
    events = [event(f"e{n}", item_id=f"i{n % 50}") for n in range(1000)]
    outcomes = await caller.record(*events)
    assert [name for name, _ in outcomes] == [
        "ACCEPTED" if n % 50 < 40 else "QUARANTINED" for n in range(1000)
    ]
    assert len(await recorded(home)) == 800


BAD_TIME = Timestamp(seconds=10**12)


@pytest.mark.parametrize(
    ("events", "field"),
    [
        ([], "events"),
        ([event(f"e{n}") for n in range(1001)], "events"),
        ([event("e1"), event("")], "events[1].event_id"),
        ([event("e" * 129)], "events[0].event_id"),
        ([event("e1", event_type=0)], "events[0].event_type"),
        ([event("e1", event_type=99)], "events[0].event_type"),
        ([event("e1", user_id="")], "events[0].user_id"),
        ([event("e1", item_id="i" * 257)], "events[0].item_id"),
        ([event("e1", time=None)], "events[0].time"),
        ([event("e1", time=BAD_TIME)], "events[0].time"),
        ([event("e1", dwell=Duration(seconds=-1))], "events[0].dwell"),
        ([event("e1", dwell=Duration(nanos=-1))], "events[0].dwell"),
        ([event("e1", dwell=Duration(nanos=2 * 10**9))], "events[0].dwell"),
        ([event("e1"), event("e2", query="nul\0")], "events[1].query"),
        ([event("e1", attribution_token="t" * 8193)], "events[0].attribution_token"),
    ],
)
async def test_bad_input_is_refused_with_the_field_and_records_nothing(
    caller: Caller, home: Home, events: Sequence[feedback_pb2.Event], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.record(*events)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (raised.value.details() or "").startswith(f"{field}: ")
    assert await recorded(home) == []


def home_tokens(home: Home) -> AttributionTokens:
    return AttributionTokens(SigningKeys.load(home.attribution_keys))


def token(tokens: AttributionTokens, age_s: float = 60, **fields: Any) -> str:
    page: dict[str, Any] = {
        "request_id": "r1",
        "surface": "feed",
        "policy_version": "p1",
        "issued_at_unix_s": int(time.time() - age_s),
        "user_id": "reader",
        "item_ids": ["i1", "i2"],
        "campaigns": {2: "c1"},
    }
    return tokens.issue(**(page | fields))


async def test_a_page_vouches_for_its_events(caller: Caller, home: Home) -> None:
    page = await caller.page()
    shown = page.recommendations[1].item_id
    wrong = {"attribution_token": page.attribution_token, "item_id": shown, "surface": "x"}
    outcomes = await caller.record(
        event("e1", event_type=IMPRESSION, rank=77, **wrong),
        event("e2", **(wrong | {"user_id": "colleague"})),
        event("e3", **(wrong | {"item_id": "never-shown"})),
        event("e4", **(wrong | {"attribution_token": page.attribution_token[:-1]})),
        event("e5", event_type=FOLLOW, **(wrong | {"item_id": "an author"})),
    )
    assert outcomes == [
        ACCEPTED,
        ("QUARANTINED", "attribution token: of another user's page"),
        ("QUARANTINED", "attribution token: of a page without this item"),
        ("QUARANTINED", "attribution token was not issued here"),
        ACCEPTED,
    ]
    impression, _ = await recorded(home)
    assert (impression["rank"], impression["surface"]) == (2, "feed")
    assert impression["request_id"] == page.request_id
    assert impression["policy_version"] == page.versions.policy
    assert impression["campaign_id"] == ""


async def test_an_impression_counts_for_its_campaign_once_and_with_a_token_only(
    caller: Caller, home: Home
) -> None:
    sponsored = {
        "item_id": "i2",
        "event_type": IMPRESSION,
        "attribution_token": token(home_tokens(home)),
    }
    foreign = token(AttributionTokens(SigningKeys.random()))
    outcomes = await caller.record(
        event("e1", **sponsored),
        event("e2", **sponsored),
        event("e3", **(sponsored | {"event_type": CLICK})),
        event("e4", **(sponsored | {"attribution_token": ""})),
        event("e5", **(sponsored | {"attribution_token": foreign})),
        event("e6", **(sponsored | {"attribution_token": token(home_tokens(home), TOKEN_S + 60)})),
        event("e7", **(sponsored | {"item_id": "i1"})),
    )
    assert [name for name, _ in outcomes] == [*["ACCEPTED"] * 4, *["QUARANTINED"] * 2, "ACCEPTED"]
    assert outcomes[4][1] == "attribution token was not issued here"
    assert "s old; accepted for 604800 s after its page" in outcomes[5][1]
    seen = {row["event_id"]: (row["campaign_id"], row["counted"]) for row in await recorded(home)}
    assert seen == {
        "e1": ("c1", True),
        "e2": ("c1", False),
        "e3": ("c1", True),
        "e4": ("", True),
        "e7": ("", True),
    }


async def stream(
    caller: Caller, requests: Sequence[feedback_pb2.StreamEventsRequest]
) -> tuple[list[feedback_pb2.EventOutcome], grpc.aio.StreamStreamCall]:
    async def send() -> AsyncIterator[feedback_pb2.StreamEventsRequest]:
        for request in requests:
            yield request

    call = caller.feedback.StreamEvents(send(), timeout=60)
    outcomes = []
    try:
        async for response in call:
            outcomes.append(response.outcome)  # noqa: PERF401 - what came before an error counts
    except grpc.aio.AioRpcError:
        pass
    return outcomes, call


def streamed(*events: feedback_pb2.Event) -> list[feedback_pb2.StreamEventsRequest]:
    return [feedback_pb2.StreamEventsRequest(caller="app", event=e) for e in events]


async def test_a_stream_is_answered_event_by_event(caller: Caller) -> None:
    call = caller.feedback.StreamEvents(timeout=30)
    for number in range(3):
        (request,) = streamed(event(f"e{number}"))
        await call.write(request)
        answer = await call.read()
        assert isinstance(answer, feedback_pb2.StreamEventsResponse)
        assert (answer.outcome.event_id, said(answer.outcome)) == (f"e{number}", ACCEPTED)
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def test_many_streams_are_answered_in_order(caller: Caller, home: Home) -> None:
    async def one(number: int) -> None:
        events = [event(f"s{number}-{n}", item_id=f"i{n % 50}") for n in range(300)]
        outcomes, call = await stream(caller, streamed(*events))
        assert await call.code() == grpc.StatusCode.OK
        assert [o.event_id for o in outcomes] == [e.event_id for e in events]
        assert [said(o)[0] == "ACCEPTED" for o in outcomes] == [n % 50 < 40 for n in range(300)]

    await asyncio.gather(*(one(number) for number in range(20)))
    assert len(await recorded(home)) == 20 * 240


async def test_a_stream_ends_at_a_bad_message_after_the_outcomes_before_it(
    caller: Caller, home: Home
) -> None:
    requests = streamed(event("e1"), event("e2"), event("e3", user_id=""), event("e4"))
    outcomes, call = await stream(caller, requests)
    assert [o.event_id for o in outcomes] == ["e1", "e2"]
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (await call.details()).startswith("event.user_id: ")
    assert [row["event_id"] for row in await recorded(home)] == ["e1", "e2"]
    outcomes, call = await stream(caller, [])
    assert (outcomes, await call.code()) == ([], grpc.StatusCode.OK)


async def test_an_erased_doctors_events_are_gone_and_refused(caller: Caller, home: Home) -> None:
    await caller.record(event("e1"), event("e2", item_id="never"), event("e3", user_id="stranger"))
    answer = await caller.catalog.DeleteUsers(catalog_pb2.DeleteUsersRequest(user_ids=["reader"]))
    remaining = {check.store: check.remaining for check in answer.checks}
    assert remaining["database: events"] == remaining["database: quarantined_events"] == 0
    assert [row["event_id"] for row in await recorded(home)] == ["e3"]
    outcomes = await caller.record(event("e4"), event("e5", user_id="colleague"))
    assert outcomes == [("QUARANTINED", ERASED), ACCEPTED]
    assert [row["event_id"] for row in await recorded(home)] == ["e3", "e5"]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["events", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands_show_and_mend_what_was_quarantined(home: Home) -> None:
    assert "nobody has recorded" in run("tail")
    assert "0  events in quarantine" in run("quarantine", "list")
    assert run("quarantine", "retry").startswith("0 recorded, 0 stay")

    async def send() -> None:
        async with calling(home) as caller:
            await caller.record(event("e1"), event("e2", item_id="late-item"), event("e3", rank=1))
            await caller.record(event("e4", item_id=""), caller="other")

    async def mend() -> None:
        async with calling(home) as caller:
            late = catalog_pb2.Item(item_id="late-item", content_type="article", title="t")
            await caller.catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[late]))

    asyncio.run(send())
    lines = run("tail", "--json").splitlines()
    assert [json.loads(line)["event_id"] for line in lines] == ["e1", "e3"]
    assert [json.loads(line)["event_id"] for line in run("tail", "-n1", "--json").splitlines()] == [
        "e3"
    ]
    assert "reader" in run("tail")
    listed = [json.loads(line) for line in run("quarantine", "list", "--json").splitlines()]
    assert [row["event"]["event_id"] for row in listed] == ["e2", "e4"]
    assert listed[0]["reason"] == "item_id: not in the catalogue"
    assert "2  events in quarantine" in run("quarantine", "list")
    nothing = json.loads(run("quarantine", "retry", "--json"))
    assert nothing == {"accepted": 0, "duplicate": 0, "quarantined": 2}
    asyncio.run(mend())
    other = json.loads(run("quarantine", "retry", "--caller", "other", "--json"))
    assert other == {"accepted": 0, "duplicate": 0, "quarantined": 1}
    done = json.loads(run("quarantine", "retry", "--json"))
    assert done == {"accepted": 1, "duplicate": 0, "quarantined": 1}
    assert [row["event_id"] for row in rows(home)] == ["e1", "e3", "e2"]
