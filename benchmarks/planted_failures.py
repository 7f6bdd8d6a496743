"""Whether a diagnosis finds failures that were planted, and raises none where there are none.

python -m benchmarks.planted_failures [--seeds 5] [--first-seed 100] [--keep DIR]

Every seed is a world of its own, with models trained on its first weeks. A mesh serves its last
three weeks once without a failure, and once with each: pages from the whole pipeline, clicks by the
world's truth, events through the event log. Then the diagnosis of `recmesh diagnose` reads what was
recorded. About a minute of a core a run. docs/diagnosis.md says which seeds were looked at before.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from benchmarks.closed_loop import (
    EXPERIMENT,
    ClosedLoop,
    Plant,
    Size,
    Stage,
    experiment_book,
    staged,
)
from recmesh.offline.diagnosis.decision_source import PageRecords
from recmesh.offline.diagnosis.diagnose import Diagnosis, diagnose
from recmesh.offline.diagnosis.event_source import Settings, ingested_events, serving_log
from recmesh.offline.diagnosis.finding import Finding
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.experiments.assignment import bucket
from recmesh.orchestrator.experiments.experiment import BUCKETS
from recmesh.orchestrator.experiments.served_experiments import RequestArms, ServedExperiments
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.interchange import TIMESTAMP
from recmesh.v1 import model_pb2

STALE_FROM_DAY = 12
DOWN_FROM_HOUR, DOWN_UNTIL_HOUR = 18, 20
OTHER_FROM_DAY = 14
OTHER_LOG_ODDS = 1.5
MOVED_TO_CONTROL = 0.35


class PopularModel:
    """A model that came to score by popularity alone: within its own range of scores."""

    def __init__(self, client: ModelClient, stage: Stage) -> None:
        self._client = client
        events = stage.known.events
        clicks = events.filter(pc.equal(events["event_type"], "click"))
        counted = Counter(clicks["item_id"].to_pylist())
        self._best = [item_id for item_id, _ in counted.most_common()]
        self._place = {item_id: at for at, item_id in enumerate(self._best)}
        self._range: tuple[float, float] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def _score_of(self, item_ids: list[str]) -> list[float]:
        if self._range is None:
            described = await self._client.describe(timeout_s=10.0)
            knots = list(described.calibration.raw_scores)
            self._range = min(knots, default=-3.0), max(knots, default=0.0)
        low, high = self._range
        n = max(len(self._best), 1)
        return [
            low + (high - low) * (1.0 - self._place.get(item_id, n) / n) ** 4
            for item_id in item_ids
        ]

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """The most popular."""
        best = self._best[: request.limit]
        return model_pb2.RetrieveResponse(
            item_ids=best, scores=await self._score_of(best), version="popular"
        )

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """By popularity."""
        return model_pb2.ScoreResponse(
            scores=await self._score_of(list(request.item_ids)), version="popular"
        )


def _popular(stage: Stage, _: str, client: ModelClient) -> ModelClient:
    return cast(ModelClient, PopularModel(client, stage))


class Flaky:
    """A model that does not answer in two hours of every day."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """As it does, or not."""
        _refuse(request.now_unix_s)
        return await self._client.retrieve(request, timeout_s=timeout_s)

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """As it does, or not."""
        _refuse(request.now_unix_s)
        return await self._client.score(request, timeout_s=timeout_s)


def _refuse(now_unix_s: float) -> None:
    if DOWN_FROM_HOUR <= now_unix_s / 3600 % 24 < DOWN_UNTIL_HOUR:
        raise UnavailableError("down, as planted")


def _flaky(_: Stage, name: str, client: ModelClient) -> ModelClient:
    return cast(ModelClient, Flaky(client)) if name == "cf" else client


class Louder:
    """A model that from a day on is as sure as it was, and more: its calibration is the old one."""

    def __init__(self, client: ModelClient, from_unix_s: float) -> None:
        self._client = client
        self._from_unix_s = from_unix_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _more(self, scores: Sequence[float], now_unix_s: float) -> list[float]:
        more = OTHER_LOG_ODDS if now_unix_s >= self._from_unix_s else 0.0
        return [score + more for score in scores]

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """The same items."""
        answer = await self._client.retrieve(request, timeout_s=timeout_s)
        scores = self._more(answer.scores, request.now_unix_s)
        return model_pb2.RetrieveResponse(item_ids=answer.item_ids, scores=scores, version="2")

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """In the same order."""
        answer = await self._client.score(request, timeout_s=timeout_s)
        scores = self._more(answer.scores, request.now_unix_s)
        return model_pb2.ScoreResponse(scores=scores, missing=answer.missing, version="2")


def _louder(stage: Stage, name: str, client: ModelClient) -> ModelClient:
    other_from = (stage.start + timedelta(days=OTHER_FROM_DAY)).timestamp()
    return cast(ModelClient, Louder(client, other_from)) if name == "topics" else client


class LeakyExperiments(ServedExperiments):
    """A third of the treatment's doctors end up in the control arm."""

    def of(
        self, user_id: str, surface: str, campaigns: CampaignBook, now_unix_s: float
    ) -> RequestArms:
        """As assigned, but for the moved."""
        found = super().of(user_id, surface, campaigns, now_unix_s)
        if bucket("leak", user_id) >= MOVED_TO_CONTROL * BUCKETS:
            return found
        return replace(found, arms=dict.fromkeys(found.arms, "control"))


def _with_items(known: Dataset, items: pa.Table) -> Dataset:
    changed = replace(known)
    changed.__dict__["items"] = items
    return changed


def _stale(stage: Stage, known: Dataset, _: int) -> Dataset:
    """What is published from a day on never reaches the mesh."""
    frozen = stage.start + timedelta(days=STALE_FROM_DAY)
    published = pc.less_equal(known.items["published_at"], pa.scalar(frozen, TIMESTAMP))
    return _with_items(known, known.items.filter(pc.fill_null(published, True)))


def starving(stage: Stage) -> str:
    """The specialty that starves: the one with most doctors that come, but for the seed's turn."""
    main = [row[0] for row in stage.dataset.users["specialties"].to_pylist()]
    coming = Counter(main[visit.user] for visit in stage.arriving)
    names = [name for name, _ in coming.most_common(8)]
    return names[stage.seed % len(names)]


def _starved(stage: Stage, known: Dataset, _: int) -> Dataset:
    """The specialty's items are lost to the mesh."""
    field = pc.list_element(known.items["specialties"], 0)
    return _with_items(known, known.items.filter(pc.not_equal(field, starving(stage))))


def _doubled(book: CampaignBook) -> CampaignBook:
    """The pacer reads the first campaign's budget twice."""
    return replace(book, budget=book.budget * np.where(np.arange(len(book)) == 0, 2, 1))


@dataclass(frozen=True)
class Failure:
    """A failure to plant, and what is to be found."""

    plant: Plant
    wanted: Callable[[Stage], tuple[str, str]] | None
    """Check and subject; None: nothing."""
    follows: frozenset[str] = frozenset()
    """Checks that may find what follows from it."""


FAILURES = {
    failure.plant.name: failure
    for failure in (
        Failure(Plant("clean"), None),
        Failure(
            Plant("popularity-biased models", model=_popular),
            lambda _: ("popularity-bias", ""),
        ),
        Failure(
            Plant("stale feed", catalogue=_stale),
            lambda _: ("stale-content", ""),
            frozenset({"cold-start"}),
        ),
        Failure(
            Plant("starving specialty", catalogue=_starved),
            lambda stage: ("starving-specialty", f"specialty {starving(stage)}"),
        ),
        Failure(
            Plant("over-paced campaign", paced=_doubled),
            lambda _: ("over-paced-campaign", "campaign c00"),
        ),
        Failure(
            Plant("model down at times", model=_flaky),
            lambda _: ("fallback-share", "source cf"),
        ),
        Failure(
            Plant("model with other scores", model=_louder),
            lambda _: ("score-drift", "model topics"),
            # It drowns the others out: pages, and so the scores of what they show, are others.
            frozenset({"score-drift", "calibration-drift", "feedback-loop"}),
        ),
        Failure(
            Plant("biased assignment", experiments=LeakyExperiments),
            lambda _: ("biased-assignment", f"experiment {EXPERIMENT}"),
        ),
    )
}


DATABASE = "served.db"


def served(stage: Stage, plant: Plant, folder: Path) -> None:
    """Lets a mesh fail like that; the folder with its database is there whole, or not at all."""
    pending = folder.with_suffix(".pending")
    shutil.rmtree(pending, ignore_errors=True)
    pending.mkdir()
    database = Database.for_writing("", pending / DATABASE)
    try:
        asyncio.run(ClosedLoop(stage, plant, database).run())
    finally:
        database.close()
    pending.rename(folder)


def diagnosed(stage: Stage, folder: Path) -> Diagnosis:
    """What `recmesh diagnose` makes of it."""
    database = Database.for_writing("", folder / DATABASE)
    try:
        events = EventLog(database).read().events
        stored = DecisionLog(database).read(DecisionSpan())
        records = PageRecords.of(opened(one.record) for one in stored)
    finally:
        database.close()
    whole = replace(stage.dataset)
    whole.__dict__["campaigns"] = stage.campaigns
    settings = Settings(days=stage.size.diagnosed_days, experiments=experiment_book())
    log = serving_log(whole, events, settings, None, ingested_events(stage.known), records)
    return diagnose(log)


@dataclass
class Score:
    """How often one failure was planted, and what was found."""

    runs: int = 0
    named: int = 0
    """Runs in which the planted failure was found and named."""
    others: int = 0
    """Findings that are neither the planted failure nor what follows from it."""

    def count(self, failure: Failure, stage: Stage, findings: list[Finding]) -> None:
        """Adds one run."""
        said = {(finding.check, finding.measured.subject) for finding in findings}
        wanted = failure.wanted(stage) if failure.wanted else None
        self.runs += 1
        self.named += wanted in said
        explained = {wanted} | {one for one in said if one[0] in failure.follows}
        self.others += len(said - explained)


def _one_seed(seed: int, folder: Path, names: list[str], scores: dict[str, Score]) -> None:
    began = time.monotonic()
    stage = staged(folder, Size(), seed)
    print(f"seed {seed}: staged in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for name in names:
        failure = FAILURES[name]
        kept = folder / name.replace(" ", "-")
        began = time.monotonic()
        if not kept.exists():
            served(stage, failure.plant, kept)
        took = time.monotonic() - began
        findings = diagnosed(stage, kept).findings
        scores[name].count(failure, stage, findings)
        print(f"\nseed {seed}, {name}, served in {took:.0f} s", flush=True)
        for finding in findings:
            print(f"  {finding.severity.value} {finding.check}: {finding.sentence}", flush=True)


def _summary(scores: dict[str, Score]) -> None:
    print(f"\n{'planted':<28}{'runs':>6}{'found and named':>18}{'other findings':>17}")
    for name, score in scores.items():
        found = "" if FAILURES[name].wanted is None else f"{score.named} of {score.runs}"
        print(f"{name:<28}{score.runs:>6}{found:>18}{score.others:>17}")
    planted = [score for name, score in scores.items() if FAILURES[name].wanted is not None]
    named, runs = sum(s.named for s in planted), sum(s.runs for s in planted)
    others = sum(score.others for score in scores.values())
    if runs:
        low, high = stats.binomtest(named, runs).proportion_ci(0.95, "wilson")
        print(f"recall {named / runs:.3f} [{low:.3f}, {high:.3f}]")
    if named + others:
        low, high = stats.binomtest(named, named + others).proportion_ci(0.95, "wilson")
        print(f"precision {named / (named + others):.3f} [{low:.3f}, {high:.3f}]")


def main() -> None:
    """Prints what was found of what was planted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5, help="worlds")
    parser.add_argument("--first-seed", type=int, default=100, help="of the worlds")
    parser.add_argument(
        "--failure", action="append", choices=list(FAILURES), help="only these; may be repeated"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for what was served; a second run judges that again"
    )
    wanted = parser.parse_args()
    names = wanted.failure or list(FAILURES)
    scores = {name: Score() for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(wanted.first_seed, wanted.first_seed + wanted.seeds):
            folder = (wanted.keep or Path(temporary)) / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            _one_seed(seed, folder, names, scores)
    _summary(scores)


if __name__ == "__main__":
    main()
