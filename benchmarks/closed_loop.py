"""A mesh that serves a synthetic world for some days, every part as it serves but the clock.

Pages come from the whole pipeline, are shown by the world's truth, and come back as events through
the event log; histories follow them, campaigns are held, confirmed and paced, and the catalogue
gets each day what was published. What fails is planted by :class:`Plant`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments import model_methods
from recmesh.deployments.event_check import EventCheck
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.model import TrainedModel
from recmesh.offline.campaigns.rehearsal import Clock, RehearsedLedger, Visit, midnight, visits
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing, Hold, WantedSlot
from recmesh.orchestrator.campaigns.pacing import PacingSettings, Prices, next_prices
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.decision_record import sealed
from recmesh.orchestrator.experiments.experiment import Arm, Experiment, ExperimentBook, Layer
from recmesh.orchestrator.experiments.served_experiments import ServedExperiments
from recmesh.orchestrator.live_histories import FOLLOWED_EVENTS
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog
from recmesh.storage.errors import UnsupportedError
from recmesh.storage.event_log import EventLog
from recmesh.storage.ingest import ingest
from recmesh.storage.interchange import CAMPAIGNS, TIMESTAMP
from recmesh.v1 import common_pb2, feedback_pb2, model_pb2, recommendation_pb2
from recmesh.v1.decision_log_pb2 import SealedDecision

Float64 = npt.NDArray[np.float64]

SURFACE = "feed"
MODELS = ("cf", "network")
STEP_S = 3600
HOLD_S = 900
NEVER_SEEN = 0.03
LONGEST_LOOK_S = 120.0
PATIENCE_S = 10.0
IMPRESSION, CLICK = common_pb2.EVENT_TYPE_IMPRESSION, common_pb2.EVENT_TYPE_CLICK
EXPERIMENT = "page-header"
"""Of two arms that change nothing."""
YEARS = datetime.fromisoformat("2000-01-01T00:00Z"), datetime.fromisoformat("2200-01-01T00:00Z")


@dataclass(frozen=True)
class Size:
    """Of a world and of the days that are served."""

    doctors: int = 600
    items: int = 2000
    days: int = 90
    served_days: int = 21
    diagnosed_days: int = 14
    """The last of them: before, a mesh that starts shows what its doctors have not seen yet."""
    pages_per_day: float = 120.0
    campaigns: int = 4


class Known(EarlierDataset):
    """The world as the catalogue knows it at a moment: events and items of before."""

    @cached_property
    def items(self) -> pa.Table:
        """Published by then."""
        items = Dataset(self.version, self.files, overlay=self.overlay).items
        out = pc.less_equal(items["published_at"], pa.scalar(self.moment, TIMESTAMP))
        return items.filter(pc.fill_null(out, True))


@dataclass(frozen=True)
class Stage:
    """A world, and what lies before the served days."""

    dataset: Dataset
    truth: Truth
    user_ids: list[str]
    item_ids: list[str]
    world_start: datetime
    start: datetime
    arriving: list[Visit]
    campaigns: pa.Table
    size: Size
    seed: int

    @cached_property
    def trained(self) -> dict[str, TrainedModel]:
        """Of what was known when the days began; trained when it is first asked for."""
        return {name: fit(name, self.known, until=self.start, seed=self.seed) for name in MODELS}

    @property
    def known(self) -> Dataset:
        """What was known when the days began; all items are in it."""
        return EarlierDataset.of(self.dataset, self.start)


def staged(folder: Path, size: Size, seed: int) -> Stage:
    """Makes a world of a seed."""
    config = WorldConfig(
        doctors=size.doctors,
        items=size.items,
        days=size.days,
        seed=seed,
        sessions_per_day=0.3,
        campaigns=0,
    )
    generate(folder / "world", config)
    ingest(folder / "world", folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    truth = Truth.load(folder / "world" / "truth")
    users = pq.read_table(folder / "world" / "users.parquet")
    items = pq.read_table(folder / "world" / "items.parquet")
    start = config.start + timedelta(days=size.days - size.served_days)
    known = EarlierDataset.of(dataset, start)
    impressions = known.events.filter(pc.equal(known.events["event_type"], "impression"))
    rows = pc.index_in(impressions["user_id"], value_set=users["user_id"].combine_chunks())
    activity = np.bincount(rows.to_numpy(), minlength=len(users)).astype(np.float64)
    arriving = visits(activity, start.timestamp(), size.served_days, size.pages_per_day, seed)
    return Stage(
        dataset=dataset,
        truth=truth,
        user_ids=users["user_id"].to_pylist(),
        item_ids=items["item_id"].to_pylist(),
        world_start=midnight(config.start),
        start=start,
        arriving=arriving,
        campaigns=_campaigns(items, users, arriving, start, size, seed),
        size=size,
        seed=seed,
    )


def _campaigns(
    items: pa.Table,
    users: pa.Table,
    arriving: list[Visit],
    start: datetime,
    size: Size,
    seed: int,
) -> pa.Table:
    """Campaigns for doctors of four specialties each, that run beyond the served days.

    Each buys as many impressions as 0.3 of the pages that its doctors open in its time.
    """
    rng = np.random.default_rng(seed)
    main = np.array([row[0] for row in users["specialties"].to_pylist()])
    consents = users["consents_sponsored"].to_numpy(zero_copy_only=False)
    pages = np.bincount([visit.user for visit in arriving], minlength=len(users))
    names = np.array(sorted(set(main.tolist())))
    field = np.array([row[0] for row in items["specialties"].to_pylist()])
    old = pc.less(items["published_at"], pa.scalar(start, TIMESTAMP)).to_numpy()
    free = pc.and_(
        pc.equal(pc.list_value_length(items["countries"]), 0),
        pc.equal(pc.list_value_length(items["off_label_countries"]), 0),
    ).to_numpy(zero_copy_only=False)
    lasting = pc.is_null(items["expires_at"]).to_numpy()
    rows = []
    for number, own in enumerate(np.array_split(rng.permutation(names), size.campaigns)):
        usable = np.flatnonzero(np.isin(field, own) & old & free & lasting)
        chosen = rng.choice(usable, min(8, len(usable)), replace=False)
        reached = np.isin(main, own) & consents
        begins = start + timedelta(days=float(rng.uniform(0, 10)))
        lasts = size.served_days * float(rng.uniform(1.0, 1.4))
        per_day = 0.3 * pages[reached].sum() / size.served_days
        rows.append(
            {
                "campaign_id": f"c{number:02d}",
                "sponsor": f"Sponsor {number}",
                "item_ids": items["item_id"].take(pa.array(chosen)).to_pylist(),
                "specialties": own.tolist(),
                "countries": [],
                "languages": [],
                "starts_at": begins,
                "ends_at": begins + timedelta(days=lasts),
                "budget_impressions": max(int(per_day * lasts), 1),
                "frequency_cap_per_day": 3,
                "value": 0.5,
                "disclosure": f"Sponsored by Sponsor {number}",
            }
        )
    return pa.Table.from_pylist(rows, schema=CAMPAIGNS.columns)


MODEL_WEIGHTS = {"topics": 0.5, "cf": 0.3, "network": 0.2, "popular": 0.05}
OBJECTIVE_WEIGHTS = {"relevance": 0.75, "freshness": 0.15, "novelty": 0.1}
"""A little more for what is new and rare than the default policy has: nobody retrains here."""


class TopicModel:
    """A model of content in place of nlp, which takes minutes to embed a world's texts.

    Log-odds by how much of the doctor's history is on the item's topic, and by specialty. It has an
    opinion of every item, also of those that came after the others were trained.
    """

    def __init__(self, items: pa.Table) -> None:
        self._ids = np.array(items["item_id"].to_pylist())
        self._row_of = {item_id: row for row, item_id in enumerate(self._ids.tolist())}
        self._topics, self._topic = np.unique(
            [row[0] for row in items["topics"].to_pylist()], return_inverse=True
        )
        self._field = np.array([row[0] for row in items["specialties"].to_pylist()])

    @property
    def name(self) -> str:
        """As in the policy."""
        return "topics"

    def _scores(self, user: common_pb2.UserFeatures) -> Float64:
        rows = [self._row_of[i] for i in user.history_item_ids if i in self._row_of]
        counts = np.bincount(self._topic[rows], minlength=len(self._topics)).astype(np.float64)
        share = (counts + 0.1) / (counts + 0.1).sum()
        own = np.isin(self._field, list(user.specialties))
        return np.asarray(-1.5 + 2.5 * np.sqrt(share)[self._topic] + own, np.float64)

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        """See the port."""
        capabilities = [model_pb2.CAPABILITY_RETRIEVE, model_pb2.CAPABILITY_SCORE]
        return model_pb2.DescribeResponse(name=self.name, version="1", capabilities=capabilities)

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """See the port."""
        scores = self._scores(request.user)
        # Ties by how new they are: items are in the order of their publication.
        best = np.lexsort((-np.arange(len(scores)), -scores))[: request.limit]
        return model_pb2.RetrieveResponse(
            item_ids=self._ids[best].tolist(), scores=scores[best].tolist(), version="1"
        )

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """See the port."""
        rows = np.array([self._row_of.get(i, -1) for i in request.item_ids], np.int64)
        scores = self._scores(request.user)[rows]
        missing = np.flatnonzero(rows < 0).tolist()
        return model_pb2.ScoreResponse(scores=scores.tolist(), missing=missing, version="1")

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        """It embeds nothing."""
        raise UnsupportedError("topics does not embed")

    async def close(self) -> None:
        """Nothing is held."""


def served_policy(policy: Policy) -> Policy:
    """The policy with the feed alone, by the models that are there."""
    feed = policy.surfaces[SURFACE]
    changed = {
        "sources": ("topics", "cf", "network", "popular", "fresh"),
        "model_weights": MODEL_WEIGHTS,
        "objective_weights": OBJECTIVE_WEIGHTS,
    }
    return policy.model_copy(update={"surfaces": {SURFACE: feed.model_copy(update=changed)}})


@dataclass
class Plant:
    """What is wrong; nothing by default."""

    name: str = "clean"
    model: Callable[[Stage, str, ModelClient], ModelClient] = lambda _, __, client: client
    """Replaces a model."""
    catalogue: Callable[[Stage, Dataset, int], Dataset] = lambda _, known, __: known
    """Replaces what the mesh knows of the catalogue on a day."""
    paced: Callable[[CampaignBook], CampaignBook] = lambda book: book
    """Replaces the campaigns as the pacer knows them."""
    experiments: Callable[[ExperimentBook], ServedExperiments] = ServedExperiments


def experiment_book() -> ExperimentBook:
    """One experiment, half and half, of every doctor."""
    return ExperimentBook(
        layers=(Layer(name="interface", salt="interface"),),
        experiments=(
            Experiment(
                name=EXPERIMENT,
                layer="interface",
                arms=(Arm(name="control", share=0.5), Arm(name="treatment", share=0.5)),
                first_bucket=0,
                buckets=10_000,
                starts_at=YEARS[0],
                ends_at=YEARS[1],
            ),
        ),
    )


class DecisionsOfPages:
    """Keeps every page's record until it is written, as an orchestrator does."""

    def __init__(self) -> None:
        self.sealed: list[SealedDecision] = []

    def keep(self, decision: Decision) -> None:
        """See the port."""
        self.sealed.append(sealed(decision))

    async def find(self, request_id: str, *, timeout_s: float) -> list[Decision]:
        """Nothing asks."""
        return []

    async def close(self) -> None:
        """See the port."""


class RecordingLedger(RehearsedLedger):
    """The ledger, which keeps the records of sponsored pages, too."""

    def __init__(
        self,
        ledger: SlotLedger,
        book: CampaignBook,
        caps: npt.NDArray[np.int64],
        clock: Clock,
        decisions: DecisionsOfPages,
    ) -> None:
        super().__init__(ledger, book, caps, clock)
        self._decisions = decisions

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
        holds = await super().hold(request_id, user_id, slots, timeout_s=timeout_s)
        if decision is not None and all(hold is Hold.HELD for hold in holds):
            self._decisions.sealed.append(decision)
        return holds


class ClosedLoop:
    """Serves the days; :meth:`run` once."""

    def __init__(self, stage: Stage, plant: Plant, database: Database) -> None:
        self._stage = stage
        self._plant = plant
        self._log = EventLog(database)
        self._slots = SlotLedger(database)
        self._decision_log = DecisionLog(database)
        self._decisions = DecisionsOfPages()
        self._clock = Clock(stage.start.timestamp())
        self._rng = np.random.default_rng(stage.seed + 1)
        self._row_of_item = {item_id: row for row, item_id in enumerate(stage.item_ids)}
        self._pending: list[tuple[float, int, feedback_pb2.Event]] = []
        self._number = itertools.count()
        self._taken = 0
        self._policy = served_policy(Policy.load()).patient(PATIENCE_S)
        self.book = CampaignBook.of(stage.campaigns)

    def _snapshot(self, day: int) -> Snapshot:
        moment = self._stage.start + timedelta(days=day)
        dataset = self._stage.dataset
        # Events stay those of before: popularity takes ingested ones only.
        known = Known(dataset.version, dataset.files, moment)
        shown = self._plant.catalogue(self._stage, known, day)
        shown.__dict__["events"] = self._stage.known.events
        return replace(Snapshot.of(shown, self._policy, None), campaigns=self.book)

    async def run(self) -> None:
        """Lets the doctors come."""
        stage = self._stage
        # Nobody else waits for this event loop.
        model_methods.AT_ONCE_S = math.inf
        clients: dict[str, ModelClient] = {
            name: InProcessModelClient(serving_model(trained))
            for name, trained in stage.trained.items()
        }
        clients["topics"] = TopicModel(stage.dataset.items)
        models = {name: self._plant.model(stage, name, c) for name, c in clients.items()}
        panel = ModelPanel(models)
        await panel.refresh()
        caps = self.book.caps_per_day(3)
        ledger = RecordingLedger(self._slots, self.book, caps, self._clock, self._decisions)
        mesh = Mesh(panel, None, self._snapshot(0), ledger=ledger)
        mesh.experiments = self._plant.experiments(experiment_book())
        mesh.decisions = self._decisions
        self._mesh = mesh
        self._check = EventCheck(mesh.tokens, lambda ids: set(ids))
        try:
            await self._days()
        finally:
            for client in clients.values():
                await client.close()

    async def _days(self) -> None:
        stage, start = self._stage, self._stage.start.timestamp()
        traffic = TrafficProfile.of(np.array([v.unix_s for v in stage.arriving], np.int64))
        prices = Prices.start(len(self.book), start)
        bound = self._policy.surfaces[SURFACE].campaigns.largest_price
        settings = PacingSettings(largest_price=bound)
        paced = self._plant.paced(self.book)
        unknown_room = np.full(len(self.book), np.inf)
        upcoming = iter(stage.arriving)
        visit = next(upcoming, None)
        steps = stage.size.served_days * 86_400 // STEP_S
        self._post(prices.price, np.zeros(len(self.book), np.int64))
        for step in range(1, steps + 1):
            until = start + step * STEP_S
            while visit is not None and visit.unix_s < until:
                self._clock.now_unix_s = visit.unix_s
                await self._page(visit)
                visit = next(upcoming, None)
            self._clock.now_unix_s = until
            self._deliver(until)
            self._decision_log.write(self._decisions.sealed, 0, int(1000 * until))
            self._decisions.sealed.clear()
            self._slots.lapse(int(1000 * (until - HOLD_S)))
            delivered = self._counted()
            prices = next_prices(paced, traffic, prices, delivered, until, unknown_room, settings)
            self._post(prices.price, delivered)
            if step * STEP_S % 86_400 == 0 and step < steps:
                self._mesh.snapshot = self._snapshot(step * STEP_S // 86_400)
        self._clock.now_unix_s += LONGEST_LOOK_S
        self._deliver(math.inf)

    def _counted(self) -> npt.NDArray[np.int64]:
        counts = self._slots.counts()
        ids = self.book.campaign_ids
        return np.array(
            [counts[i].held + counts[i].confirmed if i in counts else 0 for i in ids], np.int64
        )

    def _post(self, price: Float64, delivered: npt.NDArray[np.int64]) -> None:
        left = (self.book.budget - delivered).tolist()
        self._mesh.pacing.post(
            [
                CampaignPacing(name, own, remaining)
                for name, own, remaining in zip(
                    self.book.campaign_ids, price.tolist(), left, strict=True
                )
            ]
        )

    async def _page(self, visit: Visit) -> None:
        request = recommendation_pb2.RecommendRequest(
            request_id=f"r{next(self._number)}",
            surface=SURFACE,
            user_id=self._stage.user_ids[visit.user],
        )
        request.context.time.seconds = int(visit.unix_s)
        page = await recommend(self._mesh, request, math.inf)
        shown = [self._row_of_item[slot.item_id] for slot in page.recommendations]
        if not shown or self._rng.random() < NEVER_SEEN:
            return
        ranks = np.arange(1, len(shown) + 1)
        day = (visit.unix_s - self._stage.world_start.timestamp()) / 86_400.0
        chance = self._stage.truth.click_probability(
            np.full(len(shown), visit.user), np.array(shown), ranks, np.full(len(shown), day)
        )
        clicked = self._rng.random(len(shown)) < chance
        seen = visit.unix_s + np.sort(self._rng.uniform(1.0, LONGEST_LOOK_S, len(shown)))
        for slot, at, click in zip(
            page.recommendations, seen.tolist(), clicked.tolist(), strict=True
        ):
            for kind in (IMPRESSION, CLICK)[: 1 + click]:
                event = feedback_pb2.Event(
                    event_id=f"e{next(self._number)}",
                    event_type=kind,
                    user_id=request.user_id,
                    item_id=slot.item_id,
                    attribution_token=page.attribution_token,
                    time=Timestamp(seconds=int(at)),
                )
                heapq.heappush(self._pending, (at, next(self._number), event))

    def _deliver(self, until_unix_s: float) -> None:
        due = []
        while self._pending and self._pending[0][0] <= until_unix_s:
            due.append(("closed-loop", heapq.heappop(self._pending)[2]))
        if not due:
            return
        now = self._clock()
        self._log.write(self._check.check(due, now), int(1000 * now))
        batch = self._log.read(self._taken, columns=FOLLOWED_EVENTS)
        self._mesh.histories.take(batch.events)
        self._mesh.impressions.take(batch.events, now)
        self._taken = batch.through_seq
