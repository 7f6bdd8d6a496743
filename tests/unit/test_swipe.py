"""Sessions of cards: what each card is chosen by, and how a stream is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.deployments import swipe_methods
from recmesh.deployments.action_recorder import CALLER, ActionRecorder
from recmesh.deployments.call_meter import CallMeter
from recmesh.deployments.swipe_methods import SwipeMethods
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.orchestrator.recent_impressions import Impression
from recmesh.orchestrator.swipe.session import DealtCard, SwipeSession
from recmesh.orchestrator.swipe.session_id import SESSION_S, SessionIds
from recmesh.orchestrator.user_store import UserProfile, UserStore
from recmesh.storage.errors import (
    InvalidRequestError,
    OverloadedError,
    SilentCallerError,
    UnavailableError,
)
from recmesh.storage.event_log import EventBatch
from recmesh.storage.interchange import TIMESTAMP
from recmesh.v1 import common_pb2, feedback_pb2, model_pb2, recommendation_pb2
from tests.memory_ledger import MemoryLedger
from tests.small_world import FunctionModel, dataset, table

SWIPE, DISMISS = common_pb2.EVENT_TYPE_SWIPE, common_pb2.EVENT_TYPE_DISMISS
FOLLOW, IMPRESSION = common_pb2.EVENT_TYPE_FOLLOW, common_pb2.EVENT_TYPE_IMPRESSION
SEARCH = common_pb2.EVENT_TYPE_SEARCH
Response = recommendation_pb2.SwipeResponse
TOPICS = 4


def topic(item_id: str) -> int:
    return int(item_id[1:]) % TOPICS


class TasteModel(FunctionModel):
    """Likes what has the topic of what was swiped last, and not what was dismissed."""

    def __init__(self, n_items: int = 40) -> None:
        super().__init__("behavioral", lambda _: 0.0, n_items)
        self.histories: list[list[tuple[str, int]]] = []

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        user = request.user
        history = list(zip(user.history_item_ids, user.history_event_types, strict=True))
        self.histories.append(history)
        taste = {topic(item): 1.0 if kind == SWIPE else -1.0 for item, kind in history}
        self.opinion = lambda item: 10.0 * taste.get(topic(item), 0.0) - int(item[1:]) / 100
        return await super().retrieve(request, timeout_s=timeout_s)


class Writer:
    """A catalog that keeps events, or does not answer."""

    def __init__(self) -> None:
        self.events: list[feedback_pb2.Event] = []
        self.failure: Exception | None = None
        self.asked = 0
        self.stuck = asyncio.Event()
        self.stuck.set()
        self.grown = asyncio.Condition()

    async def holds(self, count: int) -> None:
        """Waits for so many events."""
        async with self.grown:
            await self.grown.wait_for(lambda: len(self.events) >= count)

    async def record_events(
        self, request: feedback_pb2.RecordEventsRequest, *, timeout_s: float
    ) -> feedback_pb2.RecordEventsResponse:
        assert request.caller == CALLER
        self.asked += 1
        await self.stuck.wait()
        if self.failure is not None:
            raise self.failure
        self.events.extend(request.events)
        async with self.grown:
            self.grown.notify_all()
        return feedback_pb2.RecordEventsResponse()

    async def read_changes(self, after_seq: int, *, timeout_s: float) -> None: ...  # type: ignore[override]

    async def read_events(self, after_seq: int, *, timeout_s: float) -> EventBatch:
        raise NotImplementedError

    async def close(self) -> None: ...

    def logged(self) -> pa.Table:
        """What followers of the log read."""
        names = {IMPRESSION: "impression", SWIPE: "swipe", DISMISS: "dismiss"}
        return pa.table(
            {
                "user_id": [e.user_id for e in self.events],
                "item_id": [e.item_id for e in self.events],
                "event_type": [names[e.event_type] for e in self.events],
                "received_at": pa.array(
                    [1000 * e.time.seconds for e in self.events], pa.int64()
                ).cast(TIMESTAMP),
                "request_id": [e.event_id.rpartition(".")[0] for e in self.events],
                "campaign_id": [""] * len(self.events),
                "counted": [True] * len(self.events),
            }
        )


@pytest.fixture
def model() -> TasteModel:
    return TasteModel()


@pytest.fixture
async def mesh(tmp_path: Path, model: TasteModel) -> Mesh:
    models = ModelPanel({"behavioral": model})
    await models.refresh()
    return Mesh(models, None, Snapshot.of(dataset(tmp_path), Policy.load(), None))


@pytest.fixture
async def writer() -> Writer:
    return Writer()


@pytest.fixture
async def recorder(writer: Writer) -> AsyncIterator[ActionRecorder]:
    made = ActionRecorder(writer)  # type: ignore[arg-type] # reads nothing
    yield made
    await made.close()


@pytest.fixture
def methods(mesh: Mesh, recorder: ActionRecorder) -> SwipeMethods:
    return SwipeMethods(mesh, CallMeter(), recorder)


def action(card: Response, kind: int, item_id: str = "") -> recommendation_pb2.SwipeRequest:
    return recommendation_pb2.SwipeRequest(
        action=recommendation_pb2.SwipeAction(
            item_id=item_id or card.card.item_id,
            event_type=kind,  # type: ignore[arg-type] # enums are ints
        )
    )


class Caller:
    """One stream. Sends a message, reads the answer."""

    def __init__(self, methods: SwipeMethods) -> None:
        self._sent: asyncio.Queue[recommendation_pb2.SwipeRequest | None] = asyncio.Queue()
        self._cards: AsyncGenerator[Response, None] = methods.streams["Swipe"](  # type: ignore[assignment]
            self._requests()
        )

    async def _requests(self) -> AsyncIterator[recommendation_pb2.SwipeRequest]:
        while (request := await self._sent.get()) is not None:
            yield request

    async def starts(self, user_id: str = "reader", session_id: str = "") -> Response:
        start = recommendation_pb2.SwipeStart(user_id=user_id, session_id=session_id)
        card = await self.sends(recommendation_pb2.SwipeRequest(start=start))
        assert card is not None
        return card

    async def acts(self, card: Response, kind: int = SWIPE, item_id: str = "") -> Response:
        after = await self.sends(action(card, kind, item_id))
        assert after is not None
        return after

    async def sends(self, request: recommendation_pb2.SwipeRequest | None) -> Response | None:
        """None: the stream has ended."""
        self._sent.put_nowait(request)
        return await anext(self._cards, None)

    async def leaves(self) -> None:
        assert await self.sends(None) is None


async def dealt(caller: Caller, kinds: Sequence[int], user_id: str = "reader") -> list[Response]:
    cards = [await caller.starts(user_id)]
    for kind in kinds:
        cards.append(await caller.acts(cards[-1], kind))
    return cards


def ids(cards: Sequence[Response]) -> list[str]:
    return [card.card.item_id for card in cards]


async def test_the_next_card_follows_the_action(methods: SwipeMethods) -> None:
    first, second = await dealt(Caller(methods), [SWIPE])
    assert topic(second.card.item_id) == topic(first.card.item_id)
    cards = await dealt(Caller(methods), [DISMISS] * 3, "nobody")
    liked = {topic(card.card.item_id) for card in cards}
    assert len(liked) == TOPICS, "each dismissal turns to another topic"


async def test_models_see_every_action_once_in_its_order(
    methods: SwipeMethods, model: TasteModel, mesh: Mesh, writer: Writer
) -> None:
    caller = Caller(methods)
    one, two, three = await dealt(caller, [SWIPE, DISMISS])
    assert model.histories[-1][-2:] == [(one.card.item_id, SWIPE), (two.card.item_id, DISMISS)]
    mesh.histories.take(writer.logged())
    assert await caller.acts(three, FOLLOW)
    assert model.histories[-1][-2:] == [(one.card.item_id, SWIPE), (two.card.item_id, DISMISS)]
    assert len(model.histories[-1]) == 4, "with the two that were read before"


async def test_no_card_comes_twice_and_the_stream_ends_with_the_last(
    methods: SwipeMethods,
) -> None:
    caller = Caller(methods)
    card: Response | None = await caller.starts()
    cards: list[Response] = []
    while card is not None:
        cards.append(card)
        kind = [SWIPE, DISMISS, FOLLOW, IMPRESSION][len(cards) % 4]
        card = await caller.sends(action(card, kind))
    shown = ids(cards)
    assert len(shown) == len(set(shown)) == 36
    assert not {"i0", "i1", "i5", "i6"} & set(shown), "read, of another country, expired"


async def test_actions_are_recorded_with_their_cards(
    methods: SwipeMethods, mesh: Mesh, writer: Writer
) -> None:
    one, two, _ = await dealt(Caller(methods), [SWIPE, DISMISS])
    told = [(e.event_type, e.item_id) for e in writer.events]
    assert told == [
        (IMPRESSION, one.card.item_id),
        (SWIPE, one.card.item_id),
        (IMPRESSION, two.card.item_id),
        (DISMISS, two.card.item_id),
    ]
    event = writer.events[1]
    key = SessionIds(mesh.tokens.keys_for(b"swipe sessions")).key(one.session_id, "reader", 0)
    assert event.event_id == f"{key}.1.action"
    page = mesh.tokens.verified(event.attribution_token)
    assert page.content.request_id == f"{key}.1"
    assert page.content.surface == "swipe"
    assert page.is_of("reader")
    assert page.rank_of(event.item_id) == one.card.rank == 1


async def test_who_does_not_consent_is_dealt_cards_that_actions_do_not_shape(
    tmp_path: Path, mesh: Mesh, model: TasteModel, methods: SwipeMethods
) -> None:
    data = dataset(tmp_path)
    data.__dict__["users"] = table(
        "users", [{"user_id": "reader", "consents_personalisation": False}]
    )
    mesh.snapshot.__dict__["user_store"] = UserStore(data)
    one = ids(await dealt(Caller(methods), [SWIPE] * 4))
    other = ids(await dealt(Caller(methods), [DISMISS] * 4))
    assert one == other
    assert len(set(one)) == 5
    assert model.histories == [[]] * 10


async def test_an_unknown_user_is_cold_and_shaped_by_the_session(
    methods: SwipeMethods, model: TasteModel
) -> None:
    first, second = await dealt(Caller(methods), [SWIPE], "nobody")
    assert model.histories == [[], [(first.card.item_id, SWIPE)]]
    assert topic(second.card.item_id) == topic(first.card.item_id)


async def test_while_the_writer_is_away_the_session_goes_on_and_says_so(
    methods: SwipeMethods,
    model: TasteModel,
    mesh: Mesh,
    writer: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recmesh.deployments.action_recorder.RETRY_S", 0.0)
    complete = mesh.snapshot.policy.surfaces["swipe"].model_copy(
        update={"sources": ("behavioral", "fresh"), "model_weights": {"behavioral": 1.0}}
    )
    mesh.snapshot.policy.surfaces["swipe"] = complete
    caller = Caller(methods)
    first = await caller.starts()
    assert not first.degraded
    writer.failure = UnavailableError("gone")
    second = await caller.acts(first)
    assert second.degraded
    assert model.histories[-1][-1] == (first.card.item_id, SWIPE)
    writer.failure = None
    third = await caller.acts(second)
    async with asyncio.timeout(5):
        await writer.holds(4)
    assert [e.item_id for e in writer.events] == [i for i in ids([first, second]) for _ in "ab"]
    fourth = await caller.acts(third)
    assert not fourth.degraded
    writer.stuck.clear()
    monkeypatch.setattr(swipe_methods, "PATIENCE_S", 0.0)
    fifth = await caller.acts(fourth)
    assert fifth.degraded, "nobody waits for a writer that hangs"
    writer.stuck.set()


async def test_what_the_writer_refuses_holds_up_nothing(
    recorder: ActionRecorder, writer: Writer
) -> None:
    writer.failure = InvalidRequestError("events[0].user_id", "no")
    assert not await recorder.add([feedback_pb2.Event(event_id="a")])
    writer.failure = None
    assert await recorder.add([feedback_pb2.Event(event_id="b")])
    assert [e.event_id for e in writer.events] == ["b"]


async def test_a_session_goes_on_where_the_log_is_known(
    methods: SwipeMethods, mesh: Mesh, writer: Writer
) -> None:
    before = await dealt(Caller(methods), [SWIPE, DISMISS, SWIPE])
    other = Mesh(mesh.models, None, mesh.snapshot, tokens=mesh.tokens)
    asked = 0

    async def read_up(_: float) -> bool:
        nonlocal asked
        asked += 1
        other.histories.take(writer.logged())
        other.impressions.take(writer.logged(), time.time())
        return True

    resuming = SwipeMethods(other, CallMeter(), ActionRecorder(writer), read_up)  # type: ignore[arg-type]
    caller = Caller(resuming)
    card = await caller.starts(session_id=before[0].session_id)
    assert asked == 1
    assert card.session_id == before[0].session_id
    assert card.card.item_id == before[-1].card.item_id, "the open card is still open"
    after = await caller.acts(card)
    assert after.card.item_id not in ids(before)
    assert writer.events[-1].event_id.endswith(".4.action")
    await caller.leaves()
    assert resuming._recorder is not None
    await resuming._recorder.close()


async def test_a_session_resumed_without_the_log_says_so(mesh: Mesh) -> None:
    async def silent(_: float) -> bool:
        return False

    methods = SwipeMethods(mesh, CallMeter(), None, silent)
    first = await Caller(methods).starts()
    again = await Caller(methods).starts(session_id=first.session_id)
    assert again.degraded


@pytest.mark.parametrize(
    ("kind", "item_id", "field"),
    [(SWIPE, "i999", "action.item_id"), (SEARCH, "", "action.event_type")],
)
async def test_an_action_is_on_the_open_card(
    methods: SwipeMethods, writer: Writer, kind: int, item_id: str, field: str
) -> None:
    caller = Caller(methods)
    card = await caller.starts()
    with pytest.raises(InvalidRequestError) as raised:
        await caller.acts(card, kind, item_id)
    assert raised.value.field == field
    assert writer.asked == 0


async def test_a_stream_starts_once_and_first(methods: SwipeMethods) -> None:
    with pytest.raises(InvalidRequestError, match=r"^start: the first message"):
        await Caller(methods).acts(Response())
    caller = Caller(methods)
    await caller.starts()
    with pytest.raises(InvalidRequestError, match=r"^start: the session is open"):
        await caller.starts()
    with pytest.raises(InvalidRequestError, match=r"^start.user_id"):
        await Caller(methods).starts("nul\0")
    await Caller(methods).leaves()


async def test_sessions_are_bounded_and_idle_ones_end(mesh: Mesh) -> None:
    methods = SwipeMethods(mesh, CallMeter(), most_sessions=1, idle_s=0.01)
    caller = Caller(methods)
    card = await caller.starts()
    with pytest.raises(OverloadedError):
        await Caller(methods).starts()
    with pytest.raises(SilentCallerError, match="resume the session by its id"):
        await anext(caller._cards)
    assert await Caller(methods).starts(session_id=card.session_id)


async def test_cards_are_metered_and_idle_streams_are_not(mesh: Mesh) -> None:
    meter = CallMeter()
    await dealt(Caller(SwipeMethods(mesh, meter)), [SWIPE] * 3)
    assert (meter.requests, meter.inflight) == (4, 0)


def test_a_session_id_is_its_users_for_a_day() -> None:
    ids_, other = SessionIds([b"new", b"old"]), SessionIds([b"old"])
    issued = other.issue("u", 1000)
    key = ids_.key(issued, "u", 1000 + SESSION_S)
    assert len(key) == 20
    assert len(issued) == 42
    assert key != ids_.key(ids_.issue("u", 1000), "u", 1000)
    for session_id, user_id, now in (
        (issued, "v", 1000),
        (issued, "u", 1001 + SESSION_S),
        (issued + "=", "u", 1000),
        (issued[:-1], "u", 1000),
        ("ü", "u", 1000),
        ("", "u", 1000),
    ):
        with pytest.raises(InvalidRequestError, match=r"^start.session_id"):
            ids_.key(session_id, user_id, now)
    with pytest.raises(InvalidRequestError):
        other.key(ids_.issue("u", 1000), "u", 1000)


def test_a_session_is_what_the_users_impressions_tell_of_it() -> None:
    shown = [
        ("k.11", "i3", "c"),
        ("x.1", "i4", ""),
        ("k.2", "i2", ""),
        ("k.x", "i9", ""),
        ("", "i5", ""),
    ]
    newest_first = [Impression(item, campaign, request, 0.0) for request, item, campaign in shown]
    session = SwipeSession.resumed("k", "u", newest_first)
    assert session.dealt == [DealtCard("i2", ""), DealtCard("i3", "c")]
    assert (session.number, session.request_id) == (12, "k.12")
    assert SwipeSession.resumed("k", "u", []).number == 1


SURFACE = Policy.load().surfaces["swipe"]


def surface(**slate: object) -> SurfacePolicy:
    return SURFACE.model_copy(update={"slate": SURFACE.slate.model_copy(update=slate)})


@given(
    share=st.floats(0, 1), spacing=st.integers(0, 5), greedy=st.lists(st.booleans(), max_size=60)
)
def test_sponsored_cards_keep_share_and_spacing(
    share: float, spacing: int, greedy: list[bool]
) -> None:
    """Whenever a sponsored card may come, some session takes it."""
    rules = surface(sponsored_share=share, sponsored_spacing=spacing)
    session = SwipeSession("k", "u")
    for takes in greedy:
        may = session.card_surface(rules).slate.sponsored_share == 1.0
        card = DealtCard(f"i{session.number}", "c" if may and takes else "")
        session.answered(card, SWIPE, 0, shapes=True)
        paid = [place for place, one in enumerate(session.dealt) if one.campaign_id]
        assert len(paid) <= share * len(session.dealt) + 1e-6
        assert all(b - a > spacing for a, b in itertools.pairwise(paid))


def test_a_cards_rules_are_the_slates_at_its_place() -> None:
    rules = surface(exploration_slots=(2,), sponsored_share=0.25)
    rules = rules.model_copy(update={"pins": {"i1": 1, "i2": 12}, "page_size": 10})
    session = SwipeSession("k", "u")
    one = session.card_surface(rules)
    assert (one.pins, one.slate.exploration_slots) == ({"i1": 1}, ())
    assert one.campaigns.most_organic_loss == pytest.approx(0.4)
    session.number = 12
    twelfth = session.card_surface(rules)
    assert (twelfth.pins, twelfth.slate.exploration_slots) == ({"i2": 1}, (1,))


def test_actions_that_came_back_by_the_log_are_not_doubled() -> None:
    session = SwipeSession("k", "u")
    for number in range(3):
        session.answered(DealtCard(f"i{number}", ""), SWIPE, number, shapes=number != 1)
    profile = UserProfile(
        "u",
        known=True,
        consents_personalisation=True,
        history_item_ids=("i0",),
        history_event_types=(SWIPE,),
        history_times_unix_s=(0,),
    )
    assert session.added_to(profile, erased=False).history_item_ids == ("i0", "i2")
    assert session.added_to(profile, erased=True) == profile


async def test_caps_hold_over_the_last_cards(mesh: Mesh, methods: SwipeMethods) -> None:
    capped = mesh.snapshot.policy.surfaces["swipe"]
    mesh.snapshot.policy.surfaces["swipe"] = capped.model_copy(
        update={
            "page_size": 3,
            "slate": capped.slate.model_copy(update={"max_per_topic": 1}),
        }
    )
    topics = [topic(i) for i in ids(await dealt(Caller(methods), [SWIPE] * 8))]
    assert all(len(set(topics[i : i + 3])) == 3 for i in range(7))


async def test_sponsored_cards_are_held_when_they_are_dealt(
    tmp_path: Path, mesh: Mesh, recorder: ActionRecorder
) -> None:
    at = datetime.fromtimestamp
    campaign = {
        "campaign_id": "c",
        "sponsor": "Example Pharma",
        "item_ids": ["i37", "i38", "i39"],
        "starts_at": at(time.time() - 3600, UTC),
        "ends_at": at(time.time() + 3600, UTC),
        "budget_impressions": 100,
        "frequency_cap_per_day": 10,
        "disclosure": "Sponsored by Example Pharma",
    }
    mesh.snapshot.__dict__["campaigns"] = CampaignBook.of(table("campaigns", [campaign]))
    users = [{"user_id": "reader", "country": "FR", "consents_sponsored": True}]
    data = dataset(tmp_path)
    data.__dict__["users"] = table("users", users)
    mesh.snapshot.__dict__["user_store"] = UserStore(data)
    mesh.ledger = ledger = MemoryLedger({"c": 100})
    mesh.pacing.post([CampaignPacing("c", 0.6, 100)])
    surface = mesh.snapshot.policy.surfaces["swipe"]
    mesh.snapshot.policy.surfaces["swipe"] = surface.model_copy(
        update={"campaigns": surface.campaigns.model_copy(update={"most_organic_loss": 1.0})}
    )
    cards = await dealt(Caller(SwipeMethods(mesh, CallMeter(), recorder)), [SWIPE] * 10)
    paid = [n for n, card in enumerate(cards, 1) if card.card.sponsorship.campaign_id]
    assert paid == [5, 10]
    assert {item for _, item in ledger.held} == {cards[n - 1].card.item_id for n in paid}
