"""Sessions of cards as backend services see them: over gRPC, with the writer and without."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest

from recmesh.deployments import action_recorder, swipe_methods
from recmesh.deployments.catalog_app import LOG
from recmesh.deployments.catalog_log_client import GrpcCatalogLogClient
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_services import FEEDBACK
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import Method, add_service
from recmesh.deployments.local_mesh import local_mesh
from recmesh.deployments.orchestrator_server import OrchestratorServer
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import catalog_pb2, common_pb2, recommendation_pb2, recommendation_pb2_grpc
from tests.edge.test_campaigns import calling as calling_paced
from tests.edge.test_campaigns import ordered, sponsored_page
from tests.edge.test_feedback_service import Caller, calling, home, recorded  # noqa: F401

SWIPE, DISMISS = common_pb2.EVENT_TYPE_SWIPE, common_pb2.EVENT_TYPE_DISMISS
SERVE = """
import asyncio, sys
from pathlib import Path
from recmesh.deployments import swipe_methods
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home

swipe_methods.PATIENCE_S = 30.0

async def main():
    async with local_mesh(Home(Path(sys.argv[1])), DEFAULT_POLICY, "127.0.0.1:0") as mesh:
        print("at", mesh.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards wait for the disk and for the log, however busy the machine is."""
    monkeypatch.setattr(swipe_methods, "PATIENCE_S", 30.0)
    monkeypatch.setattr(swipe_methods, "READ_UP_S", 30.0)
    monkeypatch.setattr(action_recorder, "TIMEOUT_S", 30.0)


class Swiping:
    """One stream."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self.call = stub.Swipe(timeout=60)

    async def sends(self, **message: object) -> recommendation_pb2.SwipeResponse | None:
        await self.call.write(recommendation_pb2.SwipeRequest(**message))
        answer = await self.call.read()
        return answer if isinstance(answer, recommendation_pb2.SwipeResponse) else None

    async def starts(
        self, user_id: str = "reader", session_id: str = ""
    ) -> recommendation_pb2.SwipeResponse:
        start = recommendation_pb2.SwipeStart(user_id=user_id, session_id=session_id)
        card = await self.sends(start=start)
        assert card is not None
        return card

    async def acts(
        self,
        card: recommendation_pb2.SwipeResponse,
        kind: common_pb2.EventType.ValueType = SWIPE,
    ) -> recommendation_pb2.SwipeResponse | None:
        action = recommendation_pb2.SwipeAction(item_id=card.card.item_id, event_type=kind)
        return await self.sends(action=action)


async def swiped(swiping: Swiping, card: recommendation_pb2.SwipeResponse, count: int) -> list[str]:
    """Items of the open card and of so many after it."""
    items = [card.card.item_id]
    for number in range(count):
        after = await swiping.acts(card, (SWIPE, DISMISS)[number % 2])
        assert after is not None
        card = after
        items.append(card.card.item_id)
    return items


async def test_actions_are_in_the_event_log_when_the_next_card_comes(
    home: Home,  # noqa: F811
) -> None:
    async with calling(home) as caller:
        swiping = Swiping(caller.channel)
        first = await swiping.starts()
        items = await swiped(swiping, first, 2)
        assert len(set(items)) == 3
        rows = await recorded(home)
    assert [(r["event_type"], r["item_id"], r["surface"]) for r in rows] == [
        ("impression", items[0], "swipe"),
        ("swipe", items[0], "swipe"),
        ("impression", items[1], "swipe"),
        ("dismiss", items[1], "swipe"),
    ]
    assert {r["user_id"] for r in rows} == {"reader"}
    assert len({r["request_id"] for r in rows}) == 2


async def test_a_session_ends_with_the_last_card(home: Home) -> None:  # noqa: F811
    async with calling(home) as caller:
        swiping = Swiping(caller.channel)
        card: recommendation_pb2.SwipeResponse | None = await swiping.starts()
        items = []
        while card is not None:
            items.append(card.card.item_id)
            card = await swiping.acts(card)
        assert await swiping.call.code() == grpc.StatusCode.OK
    assert len(items) == len(set(items)) == 36


@contextmanager
def process(home: Home) -> Iterator[tuple[subprocess.Popen[str], str]]:  # noqa: F811
    """An orchestrator in a process of its own, and where it listens."""
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(home.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        told = next(line for line in serving.stdout if line.startswith("at "))
        yield serving, told.split()[1]
    finally:
        serving.kill()
        serving.wait()
        if serving.stdout:
            serving.stdout.close()


@pytest.fixture(params=["reader", "private"])
async def user_id(request: pytest.FixtureRequest, home: Home) -> str:  # noqa: F811
    """One who consents to personalisation, and one who does not."""
    private = catalog_pb2.User(user_id="private", country="FR", consents_personalisation=False)
    async with calling(home) as caller:
        written = catalog_pb2.UpsertUsersRequest(users=[private])
        await caller.catalog.UpsertUsers(written, timeout=10)
    return str(request.param)


async def test_a_killed_orchestrators_session_goes_on_at_another(
    home: Home,  # noqa: F811
    user_id: str,
) -> None:
    with process(home) as (serving, address):
        async with grpc.aio.insecure_channel(address) as channel:
            swiping = Swiping(channel)
            first = await swiping.starts(user_id)
            before = await swiped(swiping, first, 6)
            serving.kill()
            assert await swiping.call.code() == grpc.StatusCode.UNAVAILABLE
    with process(home) as (_, address):
        async with grpc.aio.insecure_channel(address) as channel:
            swiping = Swiping(channel)
            card = await swiping.starts(user_id, first.session_id)
            assert card.session_id == first.session_id
            after = await swiped(swiping, card, 10)
    answered = before[:-1]
    assert not set(answered) & set(after)
    assert len(set(after)) == len(after)


@dataclass
class Mesh:
    """Orchestrators that ask one writer over gRPC, as they do in a cluster."""

    home: Home
    writer: GrpcServer
    writer_address: str
    stack: contextlib.AsyncExitStack

    async def orchestrator(self) -> grpc.aio.Channel:
        """To a new one that has no models."""
        client = GrpcCatalogLogClient()
        client.set_addresses([self.writer_address])
        server = OrchestratorServer(self.home, {}, catalog=client, policy=self.home.root / "p.toml")
        self.stack.push_async_callback(client.close)
        self.stack.push_async_callback(server.stop, 0)
        port = await server.start("127.0.0.1:0")
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return await self.stack.enter_async_context(channel)


@pytest.fixture
async def cluster(home: Home) -> AsyncIterator[Mesh]:  # noqa: F811
    policy = DEFAULT_POLICY.read_text()
    swipe = policy[policy.index("[surfaces.swipe]") :]
    named = swipe[: swipe.index("]\n", swipe.index("sources =")) + 2]
    lean = named[: named.index("sources =")] + 'sources = ["fresh", "popular"]\n'
    models = "behavioral = 1.0\ncf = 0.5\nnlp = 0.5\npopular = 0.3"
    (home.root / "p.toml").write_text(policy.replace(named, lean).replace(models, "popular = 0.3"))
    async with contextlib.AsyncExitStack() as stack:
        tokens = AttributionTokens(SigningKeys.load_or_make(home.attribution_keys))
        writer = CatalogWriter(home, "", None, "", tokens)
        stack.push_async_callback(writer.close)
        await writer.start()
        server = GrpcServer([FEEDBACK.full_name, LOG.full_name])
        add_service(server, FEEDBACK, writer.feedback.offered, checked=True)
        read: dict[str, Method] = {
            "ReadChanges": writer.methods.read_changes,
            "ReadEvents": writer.feedback.read_events,
        }
        add_service(server, LOG, read, checked=False)
        stack.push_async_callback(server.stop, 0)
        port = await server.start("127.0.0.1:0")
        yield Mesh(home, server, f"127.0.0.1:{port}", stack)


async def test_a_session_moves_between_orchestrators_without_a_repeated_card(
    cluster: Mesh,
) -> None:
    channels = [await cluster.orchestrator() for _ in range(2)]
    seen: list[str] = []
    session_id = ""
    for turn in range(6):
        swiping = Swiping(channels[turn % 2])
        card = await swiping.starts("reader", session_id)
        assert not card.degraded
        session_id = card.session_id
        seen += (await swiped(swiping, card, 3))[:-1]
        swiping.call.cancel()
    assert len(set(seen)) == len(seen) == 18


async def test_without_the_writer_the_session_goes_on_and_says_degraded(cluster: Mesh) -> None:
    swiping = Swiping(await cluster.orchestrator())
    card = await swiping.starts()
    recorded_first = await swiping.acts(card)
    assert recorded_first is not None
    assert not recorded_first.degraded
    await cluster.writer.stop(0)
    items, card = [card.card.item_id], recorded_first
    for _ in range(3):
        items.append(card.card.item_id)
        after = await swiping.acts(card, DISMISS)
        assert after is not None
        assert after.degraded
        card = after
    assert len(set(items)) == 4


@pytest.fixture
async def channel(home: Home) -> AsyncIterator[grpc.aio.Channel]:  # noqa: F811
    """Through the edge."""
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        EdgeSupervisor(EdgeConfig(address="127.0.0.1:0"), [mesh.address]) as edge,
    ):
        await edge.wait_ready(10)
        async with grpc.aio.insecure_channel(edge.address) as made:
            yield made


async def test_cards_come_one_by_one_through_the_edge(channel: grpc.aio.Channel) -> None:
    swiping = Swiping(channel)
    items = await swiped(swiping, await swiping.starts(), 5)
    assert len(set(items)) == 6
    await swiping.call.done_writing()
    assert await swiping.call.code() == grpc.StatusCode.OK


async def test_what_breaks_the_protocol_is_named(channel: grpc.aio.Channel) -> None:
    action = recommendation_pb2.SwipeAction(item_id="i1", event_type=SWIPE)
    start = recommendation_pb2.SwipeStart(user_id="reader")
    foreign = recommendation_pb2.SwipeStart(user_id="reader", session_id="x")
    for messages, field in (
        ([{"action": action}], "start"),
        ([{"start": start}, {"start": start}], "start"),
        ([{"start": start}, {"action": action}], "action.item_id"),
        ([{"start": foreign}], "start.session_id"),
        ([{"start": recommendation_pb2.SwipeStart()}], "start.user_id"),
        ([{}], "message"),
    ):
        swiping = Swiping(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            for message in messages:
                await swiping.sends(**message)
        assert await swiping.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (await swiping.call.details()).startswith(f"{field}: ")


async def test_many_open_sessions_leave_room_for_pages(channel: grpc.aio.Channel) -> None:
    sessions = [Swiping(channel) for _ in range(50)]
    cards = await asyncio.gather(*(s.starts(f"u{n}") for n, s in enumerate(sessions)))
    assert len({card.session_id for card in cards}) == 50
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id="reader")
    assert (await stub.Recommend(request, timeout=10)).recommendations


async def test_a_sponsored_card_counts_for_its_campaign(home: Home) -> None:  # noqa: F811
    async with calling_paced(home) as caller:
        await ordered(caller, frequency_cap_per_day=5)
        await sponsored_page(caller, "colleague")
        swiping = Swiping(caller.channel)
        card: recommendation_pb2.SwipeResponse | None = await swiping.starts("stranger")
        number, paid = 1, ""
        while card is not None and not paid:
            paid = card.card.sponsorship.campaign_id and card.card.item_id
            if paid:
                assert card.card.sponsorship.disclosure == "Sponsored by Example Pharma"
                assert number >= 5
            card, number = await swiping.acts(card), number + 1
        assert paid
        rows = await recorded(home)
    assert ("impression", paid, "c1") in {
        (r["event_type"], r["item_id"], r["campaign_id"]) for r in rows
    }


async def test_the_command_deals_cards_and_resumes(home: Home) -> None:  # noqa: F811
    async with local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh:

        async def command(*arguments: str, keys: str) -> tuple[list[str], str]:
            done = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "recmesh.cli.main", "swipe", *arguments),
                *("--address", mesh.address, "--json"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await done.communicate(keys.encode())
            assert done.returncode == 0
            return [json.loads(line)["card"]["item_id"] for line in out.splitlines()], err.decode()

        first, told = await command("reader", keys="s\nx\nd\nq\n")
        assert len(set(first)) == 3
        assert "x is none of s, d, c, v, q" in told
        option = told.split()[-1]
        second, _ = await command("reader", option, keys="s\n")
    assert option.startswith("--session-id=")
    assert not set(first[:2]) & set(second)
    assert len(second) == 2
