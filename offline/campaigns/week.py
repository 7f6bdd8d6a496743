"""Campaigns rehearsed on a world: what each delivers, and what they all cost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.model import Progress, TrainedModel
from recmesh.models.registry import known_models
from recmesh.offline.campaigns.orders import Orders, ordered
from recmesh.offline.campaigns.rehearsal import (
    SURFACE,
    Clock,
    Course,
    Rehearsal,
    RehearsedLedger,
    midnight,
    visits,
)
from recmesh.offline.campaigns.rehearsal_report import CampaignCourse, RehearsalReport
from recmesh.offline.evaluation.bootstrap import Float64, Interval
from recmesh.offline.evaluation.evaluate import Steps, unseen_steps
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.offline.evaluation.trained_index import trained_index
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.campaigns.forecast import forecast
from recmesh.orchestrator.campaigns.pacing import PacingSettings, Prices
from recmesh.orchestrator.campaigns.reach import Audiences, room_per_day
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import ConfigurationError, DataError, UnavailableError
from recmesh.storage.event_log import EventLog

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What to rehearse."""

    days: int = 7
    feasible: int = 10
    infeasible: int = 2
    pages_per_day: float = 2000.0
    outage: tuple[str, ...] = ()
    """Models that are down from two sevenths of the days on, for two sevenths."""
    models: tuple[str, ...] = field(default_factory=lambda: tuple(known_models()))
    seed: int = 0
    bootstrap_samples: int = 1000
    text_vectors: Path | None = None


class _Outage:
    """A model that is down while somebody says so."""

    def __init__(self, client: InProcessModelClient) -> None:
        self._client = client
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down and name in ("retrieve", "score"):
            return _gone
        return getattr(self._client, name)


async def _gone(*_: object, **__: object) -> Any:
    raise UnavailableError("down in this rehearsal")


@dataclass(frozen=True)
class _Stage:
    """Everything that was made ready."""

    truth: Truth
    user_ids: list[str]
    item_ids: list[str]
    world_start: datetime
    start: datetime
    known: EarlierDataset
    audiences: Audiences
    activity: Float64
    orders: Orders


def _staged(dataset: Dataset, world: Path, settings: Settings, policy: Policy) -> _Stage:
    if not _sponsored_per_page(policy):
        raise ConfigurationError(
            f"policy {policy.version}: pages of {SURFACE} have no sponsored slot, because its "
            f"sponsored_share is {policy.surfaces[SURFACE].slate.sponsored_share}"
        )
    truth = Truth.load(world / "truth")
    user_ids = pq.read_table(world / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    item_ids = pq.read_table(world / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    if not len(dataset.events):
        raise DataError("a rehearsal needs events to learn from")
    end = midnight(pc.max(dataset.events["time"]).as_py()) + timedelta(days=1)
    world_start = end - timedelta(days=round(truth.days))
    start = end - timedelta(days=settings.days)
    if start <= world_start:
        raise DataError(f"the world has {truth.days:.0f} days, fewer than are to be rehearsed")
    known = EarlierDataset.of(dataset, start)
    impressions = known.events.filter(pc.equal(known.events["event_type"], "impression"))
    surface = policy.surfaces[SURFACE]
    days = (start - world_start) / timedelta(days=1)
    audiences = Audiences.of(known.users, impressions, days, surface.page_size)
    # Doctors come as often as they did before, but for the number of all.
    scale = settings.pages_per_day / max(float(audiences.pages_per_day.sum()), 1e-9)
    audiences = replace(audiences, pages_per_day=scale * audiences.pages_per_day)
    of_truth = pc.index_in(pa.array(user_ids), value_set=known.users["user_id"].combine_chunks())
    if of_truth.null_count:
        raise DataError(f"the data set does not hold the doctors of the world {world}")
    orders = ordered(
        known.items,
        known.users,
        audiences,
        start=start,
        days=settings.days,
        feasible=settings.feasible,
        infeasible=settings.infeasible,
        sponsored_per_page=_sponsored_per_page(policy),
        default_cap=policy.frequency_cap_per_day,
        seed=settings.seed,
    )
    activity = audiences.pages_per_day[of_truth.to_numpy()]
    return _Stage(truth, user_ids, item_ids, world_start, start, known, audiences, activity, orders)


def _sponsored_per_page(policy: Policy) -> int:
    surface = policy.surfaces[SURFACE]
    rules, size = surface.slate, surface.page_size
    return min(int(rules.sponsored_share * size + 1e-9), -(-size // (rules.sponsored_spacing + 1)))


def rehearse(
    dataset: Dataset,
    world: Path,
    policy: Policy,
    settings: Settings,
    steps: Steps = unseen_steps,
) -> RehearsalReport:
    """Serves campaigns to the world's last days, with models trained on what lies before.

    Args:
        dataset: the world, ingested.
        world: its folder, for the ground truth.
        policy: that serves.
        settings: what to rehearse.
        steps: opens a step by name; returns who is told how far it is.

    Raises:
        NotFoundError: the folder holds no ground truth.
        DataError: the data set is not the world's, or too small.
        ConfigurationError: the policy has no sponsored slots.
    """
    begun = time.monotonic()
    stage = _staged(dataset, world, settings, policy)
    trained = {
        name: fit(
            name,
            stage.known,
            until=stage.start,
            seed=settings.seed,
            text_vectors=settings.text_vectors,
            progress=steps(f"train {name}"),
        )
        for name in settings.models
    }
    with tempfile.TemporaryDirectory() as folder:
        database = Database.for_writing("", Path(folder) / "rehearsal.db")
        try:
            course, ledger, log = asyncio.run(
                _served(stage, trained, policy, settings, database, steps("rehearse"))
            )
            return _report(stage, course, ledger, log, policy, settings, begun)
        finally:
            database.close()


async def _served(
    stage: _Stage,
    trained: Mapping[str, TrainedModel],
    policy: Policy,
    settings: Settings,
    database: Database,
    progress: Progress,
) -> tuple[Course, SlotLedger, EventLog]:
    clients = {n: _Outage(InProcessModelClient(serving_model(t))) for n, t in trained.items()}
    index, embedding = None, None
    if EMBEDDER in trained:
        index, embedding = await trained_index(stage.known, trained[EMBEDDER])
    book = stage.orders.book
    snapshot = replace(
        Snapshot.of(stage.known, policy.patient(PATIENCE_S), embedding), campaigns=book
    )
    clock = Clock(stage.start.timestamp())
    slots, log = SlotLedger(database), EventLog(database)
    caps = book.caps_per_day(policy.frequency_cap_per_day)
    models: dict[str, ModelClient] = dict(clients)
    panel = ModelPanel(models)
    await panel.refresh()
    mesh = Mesh(panel, index, snapshot, ledger=RehearsedLedger(slots, book, caps, clock))
    rehearsal = Rehearsal(
        mesh,
        stage.truth,
        stage.user_ids,
        stage.item_ids,
        stage.world_start,
        log,
        slots,
        clock,
        PacingSettings(largest_price=policy.surfaces[SURFACE].campaigns.largest_price),
        room_per_day(book, stage.audiences, caps),
        settings.seed,
    )
    arriving = visits(
        stage.activity,
        clock.now_unix_s,
        settings.days,
        settings.pages_per_day,
        settings.seed,
    )
    down_from, down_until = (clock.now_unix_s + k * settings.days * 86_400 / 7 for k in (2, 4))

    def told(done: float, total: float, message: str) -> None:
        for name in settings.outage:
            clients[name].down = down_from <= clock.now_unix_s < down_until
        progress(done, total, message)

    try:
        return await rehearsal.run(arriving, settings.days, told), slots, log
    finally:
        for client in clients.values():
            await client.close()


def _report(
    stage: _Stage,
    course: Course,
    ledger: SlotLedger,
    log: EventLog,
    policy: Policy,
    settings: Settings,
    begun: float,
) -> RehearsalReport:
    surface = policy.surfaces[SURFACE]
    paid = np.array([page.sponsored for page in course.pages])
    ndcg = np.array([page.ndcg for page in course.pages])
    organic = np.array([page.organic_ndcg for page in course.pages])
    return RehearsalReport(
        policy=policy.version,
        start=stage.start.isoformat(),
        days=settings.days,
        seed=settings.seed,
        outage=settings.outage,
        pages=len(paid),
        sponsored_pages=int((paid > 0).sum()),
        sponsored_share=float(paid.sum() / max(len(paid) * surface.page_size, 1)),
        organic_loss=_loss(ndcg, organic, settings),
        organic_loss_of_sponsored=_loss(ndcg[paid > 0], organic[paid > 0], settings),
        most_organic_loss=surface.campaigns.most_organic_loss,
        degraded_pages=course.degraded,
        ledger_faults=len(ledger.audit()),
        campaigns=_campaigns(stage, course, ledger, log, policy),
        seconds=time.monotonic() - begun,
    )


def _loss(ndcg: Float64, organic: Float64, settings: Settings) -> Interval:
    """Bootstrapped over pages."""
    if not len(ndcg):
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(settings.seed)
    n = len(ndcg)
    losses = []
    for _ in range(settings.bootstrap_samples):
        rows = rng.integers(0, n, n)
        losses.append(1.0 - ndcg[rows].sum() / organic[rows].sum())
    low, high = np.quantile(losses, [0.025, 0.975])
    return Interval(float(1.0 - ndcg.sum() / organic.sum()), float(low), float(high))


def _first_evening(stage: _Stage, course: Course, row: int) -> int:
    """The first day at whose end the campaign has run for some hours."""
    starts = float(stage.orders.book.starts_unix_s[row])
    ends = stage.start.timestamp() + 86_400.0 * np.arange(1, len(course.delivered) + 1)
    return int(np.argmax(ends >= starts + 6 * 3600))


def _campaigns(
    stage: _Stage, course: Course, ledger: SlotLedger, log: EventLog, policy: Policy
) -> tuple[CampaignCourse, ...]:
    book = stage.orders.book
    counts = ledger.counts()
    caps = book.caps_per_day(policy.frequency_cap_per_day)
    most = _most_in_a_day(log)
    foreseen = [
        _foreseen(stage, prices, policy, day)
        for day, prices in enumerate(course.end_prices, start=1)
    ]
    return tuple(
        CampaignCourse(
            campaign_id=campaign_id,
            feasible=bool(stage.orders.feasible[row]),
            bought=int(book.budget[row]),
            confirmed=counts[campaign_id].confirmed if campaign_id in counts else 0,
            starts_at=_time(int(book.starts_unix_s[row])),
            ends_at=_time(int(book.ends_unix_s[row])),
            cap_per_day=int(caps[row]),
            most_in_a_day=most.get(campaign_id, 0),
            foreseen=float(foreseen[_first_evening(stage, course, row)][row]),
            highest_price=max(float(highest[row]) for highest in course.largest_price),
            by_day=tuple(int(confirmed[row]) for confirmed in course.delivered),
        )
        for row, campaign_id in enumerate(book.campaign_ids)
    )


def _foreseen(stage: _Stage, prices: Prices, policy: Policy, day: int) -> Float64:
    return forecast(
        stage.orders.book,
        TrafficProfile.of(np.zeros(0, np.int64)),
        stage.audiences,
        prices,
        prices.delivered,
        now_unix_s=stage.start.timestamp() + day * 86_400,
        caps_per_day=stage.orders.book.caps_per_day(policy.frequency_cap_per_day),
        sponsored_per_page=_sponsored_per_page(policy),
        largest_price=policy.surfaces[SURFACE].campaigns.largest_price,
    )


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()


def _most_in_a_day(log: EventLog) -> dict[str, int]:
    """The most impressions that one doctor had of each campaign within any 24 hours."""
    events = log.read(columns=["user_id", "campaign_id", "event_type", "received_at", "counted"])
    shown = events.events.filter(
        pc.and_(pc.equal(events.events["event_type"], "impression"), events.events["counted"])
    )
    times: dict[tuple[str, str], list[int]] = {}
    for user, campaign, at in zip(
        shown["user_id"].to_pylist(),
        shown["campaign_id"].to_pylist(),
        shown["received_at"].cast(pa.int64()).to_pylist(),
        strict=True,
    ):
        if campaign:
            times.setdefault((user, campaign), []).append(at)
    most: dict[str, int] = {}
    for (_, campaign), own in times.items():
        first = np.searchsorted(own, np.array(own) - 86_400_000, side="right")
        within = int((np.arange(1, len(own) + 1) - first).max())
        most[campaign] = max(most.get(campaign, 0), within)
    return most
