"""A rehearsal: campaigns served to the synthetic world for some days, with every part as it serves.

Pages are filled by the whole pipeline; what doctors do follows the world's ground truth and goes
through the event log; the ledger holds and confirms in the same database; prices move every
minute. Only the clock is not real.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.event_check import EventCheck
from recmesh.models.model import Progress
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.campaigns.campaign_book import Audience, CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing, Hold, WantedSlot
from recmesh.orchestrator.campaigns.pacing import PacingSettings, Prices, next_prices
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile
from recmesh.orchestrator.live_histories import FOLLOWED_EVENTS
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.campaign_ledger import PageWish, SlotLedger, SlotWish
from recmesh.storage.event_log import EventLog
from recmesh.v1 import common_pb2, feedback_pb2, recommendation_pb2
from recmesh.v1.decision_log_pb2 import SealedDecision

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SURFACE = "feed"
STEP_S = 60
HOLD_S = 900
"""As the mesh's defaults are."""
NEVER_SEEN = 0.03
"""Share of pages that nobody looks at: their slots lapse."""
LONGEST_LOOK_S = 120.0
IMPRESSION, CLICK = common_pb2.EVENT_TYPE_IMPRESSION, common_pb2.EVENT_TYPE_CLICK


@dataclass(slots=True)
class Clock:
    """The time of the rehearsal."""

    now_unix_s: float

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now_unix_s


class RehearsedLedger:
    """The ledger as pages ask it, at the rehearsal's time."""

    def __init__(self, ledger: SlotLedger, book: CampaignBook, caps: Int64, clock: Clock) -> None:
        self._ledger = ledger
        self._book = book
        self._caps = caps
        self._clock = clock

    async def hold(
        self,
        request_id: str,
        user_id: str,
        slots: Sequence[WantedSlot],
        *,
        timeout_s: float,
        decision: SealedDecision | None = None,
    ) -> list[Hold]:
        """See the port."""
        wishes = []
        for slot in slots:
            row = self._book.row_of[slot.campaign_id]
            budget, cap = int(self._book.budget[row]), int(self._caps[row])
            wishes.append(SlotWish(slot.item_id, slot.campaign_id, budget, cap))
        now_ms = int(1000 * self._clock())
        outcomes = self._ledger.hold([PageWish(request_id, user_id, wishes)], now_ms)[0]
        return [Hold[outcome.name] for outcome in outcomes]

    async def read_pacing(self, *, timeout_s: float) -> list[CampaignPacing]:
        """Nothing asks: the rehearsal posts prices itself."""
        return []

    async def close(self) -> None:
        """See the port."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A doctor who opens the feed."""

    unix_s: float
    user: int
    """Row of the truth."""


@dataclass(slots=True)
class PageRecord:
    """What a page was worth."""

    sponsored: int
    """Slots that counted for a campaign."""
    ndcg: float
    """By the truth's click probabilities."""
    organic_ndcg: float
    """Of the page that the same doctor would have seen without campaigns at that moment."""


@dataclass(slots=True)
class Course:
    """What happened; arrays are by campaign."""

    pages: list[PageRecord] = field(default_factory=list)
    delivered: list[Int64] = field(default_factory=list)
    """Confirmed impressions after every day."""
    largest_price: list[Float64] = field(default_factory=list)
    """The highest price of every day."""
    end_prices: list[Prices] = field(default_factory=list)
    """After every day."""
    degraded: int = 0


def visits(
    activity: Float64, start_unix_s: float, days: int, pages_per_day: float, seed: int
) -> list[Visit]:
    """When doctors open the feed, by ascending time: each as often as in the world.

    Args:
        activity: of every doctor, in any unit.
        start_unix_s: midnight of the first day.
        days: how many.
        pages_per_day: of all doctors together.
        seed: of all randomness.
    """
    rng = np.random.default_rng(seed)
    rates = pages_per_day * activity / activity.sum()
    found = []
    for day in range(days):
        users = np.repeat(np.arange(len(activity)), rng.poisson(rates))
        # As in the world: from six in the morning to eleven at night.
        times = start_unix_s + 86_400 * (day + rng.uniform(0.25, 0.95, len(users)))
        found += [Visit(float(t), int(u)) for t, u in zip(times, users, strict=True)]
    return sorted(found, key=lambda visit: visit.unix_s)


class Rehearsal:
    """Runs the days; :meth:`run` once."""

    def __init__(
        self,
        mesh: Mesh,
        truth: Truth,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        world_start: datetime,
        log: EventLog,
        ledger: SlotLedger,
        clock: Clock,
        settings: PacingSettings,
        room_per_day: Float64,
        seed: int,
    ) -> None:
        """What takes part.

        Args:
            mesh: that fills the pages; its ledger is this one, at the rehearsal's clock.
            truth: of the world.
            user_ids: the truth's rows.
            item_ids: the truth's rows.
            world_start: when the truth's days begin.
            log: empty.
            ledger: in the same database.
            clock: everybody's.
            settings: of the prices.
            room_per_day: impressions that each campaign could be given in a day ``[campaigns]``.
            seed: of what doctors do.
        """
        self._mesh = mesh
        self._truth = truth
        self._user_ids = user_ids
        self._row_of_item = {item_id: row for row, item_id in enumerate(item_ids)}
        self._origin_s = world_start.timestamp()
        self._log = log
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._room_per_day = room_per_day
        self._rng = np.random.default_rng(seed)
        self._check = EventCheck(mesh.tokens, lambda ids: set(ids))
        self._pending: list[tuple[float, int, feedback_pb2.Event]] = []
        self._number = itertools.count()
        self._taken = 0
        self.book = mesh.snapshot.campaigns

    async def run(self, arriving: Sequence[Visit], days: int, progress: Progress) -> Course:
        """Lets the doctors come."""
        course = Course()
        start = self._clock()
        traffic = TrafficProfile.of(np.array([visit.unix_s for visit in arriving], np.int64))
        prices = Prices.start(len(self.book), start)
        highest = np.zeros(len(self.book))
        upcoming = iter(arriving)
        visit = next(upcoming, None)
        steps = days * 86_400 // STEP_S
        self._post(prices, np.zeros(len(self.book), np.int64))
        for step in range(1, steps + 1):
            until = start + step * STEP_S
            while visit is not None and visit.unix_s < until:
                self._clock.now_unix_s = visit.unix_s
                course.pages.append(await self._page(visit, course))
                visit = next(upcoming, None)
            self._clock.now_unix_s = until
            self._deliver_events(until)
            self._ledger.lapse(int(1000 * (until - HOLD_S)))
            delivered = self._counted()
            prices = next_prices(
                self.book, traffic, prices, delivered, until, self._room_per_day, self._settings
            )
            self._post(prices, delivered)
            np.maximum(highest, prices.price, out=highest)
            if step * STEP_S % 86_400 == 0:
                course.delivered.append(self._confirmed())
                course.largest_price.append(highest)
                course.end_prices.append(prices)
                highest = np.zeros(len(self.book))
            progress(step, steps, f"{len(course.pages):,} pages")
        # Tokens outlive the days: what was shown at their end is confirmed a little later.
        self._clock.now_unix_s = start + days * 86_400 + LONGEST_LOOK_S
        self._deliver_events(math.inf)
        return course

    def _counted(self) -> Int64:
        counts = self._ledger.counts()
        return np.array(
            [
                counts[i].held + counts[i].confirmed if i in counts else 0
                for i in self.book.campaign_ids
            ],
            np.int64,
        )

    def _confirmed(self) -> Int64:
        counts = self._ledger.counts()
        ids = self.book.campaign_ids
        return np.array([counts[i].confirmed if i in counts else 0 for i in ids], np.int64)

    def _post(self, prices: Prices, delivered: Int64) -> None:
        left = (self.book.budget - delivered).tolist()
        self._mesh.pacing.post(
            [
                CampaignPacing(campaign_id, price, remaining)
                for campaign_id, price, remaining in zip(
                    self.book.campaign_ids, prices.price.tolist(), left, strict=True
                )
            ]
        )

    async def _page(self, visit: Visit, course: Course) -> PageRecord:
        request = recommendation_pb2.RecommendRequest(
            request_id=f"r{next(self._number)}",
            surface=SURFACE,
            user_id=self._user_ids[visit.user],
        )
        request.context.time.seconds = int(visit.unix_s)
        page = await recommend(self._mesh, request, math.inf)
        course.degraded += page.degraded
        shown = self._rows(page)
        paid = sum(bool(slot.sponsorship.campaign_id) for slot in page.recommendations)
        organic = ndcg = self._ndcg(visit, shown)
        if self._is_reached(visit):
            # Without a paid slot, too: campaigns may have held something back.
            ledger, self._mesh.ledger = self._mesh.ledger, None
            free = await recommend(self._mesh, request, math.inf)
            self._mesh.ledger = ledger
            organic = self._ndcg(visit, self._rows(free))
        self._look_at(visit, page, shown)
        return PageRecord(paid, ndcg, organic)

    def _is_reached(self, visit: Visit) -> bool:
        user = self._mesh.snapshot.user_store.get(self._user_ids[visit.user])
        audience = Audience(user.specialties, user.country, user.language, user.consents_sponsored)
        running = self.book.running(int(visit.unix_s))
        return bool((running & self.book.reaches(audience)).any())

    def _rows(self, page: recommendation_pb2.RecommendResponse) -> Int64:
        return np.array([self._row_of_item[s.item_id] for s in page.recommendations], np.int64)

    def _wanted(self, visit: Visit, items: Int64, ranks: Int64) -> Float64:
        day = (visit.unix_s - self._origin_s) / 86_400.0
        return self._truth.click_probability(
            np.full(len(items), visit.user), items, ranks, np.full(len(items), day)
        )

    def _ndcg(self, visit: Visit, shown: Int64) -> float:
        if not len(shown):
            return 0.0
        discount = 1.0 / np.log2(np.arange(len(shown)) + 2.0)
        first = np.ones(len(self._row_of_item), np.int64)
        everything = self._wanted(visit, np.arange(len(first)), first)
        day = (visit.unix_s - self._origin_s) / 86_400.0
        everything = np.where(self._truth.published <= day, everything, 0.0)
        ideal = np.sort(everything)[::-1][: len(shown)]
        return float((everything[shown] * discount).sum() / (ideal * discount).sum())

    def _look_at(
        self, visit: Visit, page: recommendation_pb2.RecommendResponse, shown: Int64
    ) -> None:
        if not len(shown) or self._rng.random() < NEVER_SEEN:
            return
        ranks = np.arange(1, len(shown) + 1)
        clicked = self._rng.random(len(shown)) < self._wanted(visit, shown, ranks)
        seen = visit.unix_s + np.sort(self._rng.uniform(1.0, LONGEST_LOOK_S, len(shown)))
        for slot, at, click in zip(
            page.recommendations, seen.tolist(), clicked.tolist(), strict=True
        ):
            for kind in (IMPRESSION, CLICK)[: 1 + click]:
                event = feedback_pb2.Event(
                    event_id=f"e{next(self._number)}",
                    event_type=kind,
                    user_id=self._user_ids[visit.user],
                    item_id=slot.item_id,
                    attribution_token=page.attribution_token,
                    time=Timestamp(seconds=int(at)),
                )
                heapq.heappush(self._pending, (at, next(self._number), event))

    def _deliver_events(self, until_unix_s: float) -> None:
        due = []
        while self._pending and self._pending[0][0] <= until_unix_s:
            due.append(("rehearsal", heapq.heappop(self._pending)[2]))
        if not due:
            return
        now = self._clock()
        self._log.write(self._check.check(due, now), int(1000 * now))
        batch = self._log.read(self._taken, columns=FOLLOWED_EVENTS)
        self._mesh.histories.take(batch.events)
        self._mesh.impressions.take(batch.events, now)
        self._taken = batch.through_seq


def midnight(moment: datetime) -> datetime:
    """The day's beginning, UTC."""
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
