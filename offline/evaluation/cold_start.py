"""What is new: items nobody has seen yet, and doctors who have done nothing yet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from recmesh.models.interactions import read_interactions
from recmesh.models.model import Context, Float32, Int64, Model, Progress, TrainedModel
from recmesh.models.registry import known_models, trainer
from recmesh.offline.evaluation.bootstrap import Float64, Interval, UserBootstrap
from recmesh.offline.evaluation.cold_cases import Case, ColdPeriod
from recmesh.offline.evaluation.evaluate import BLEND, Steps, unseen_steps
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.holdout import held_out
from recmesh.offline.evaluation.served_pages import ServedPages, served_pages
from recmesh.offline.evaluation.served_scores import SURFACE, request_user
from recmesh.offline.evaluation.temporal_split import EarlierDataset, TemporalSplit
from recmesh.offline.metrics.relevance import ndcg, recall
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

K, DEEPEST = 10, 100

Ranking = Callable[[Case], Int64]
"""Catalog rows for a case, best first; empty: no opinion."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to evaluate."""

    models: tuple[str, ...] = field(default_factory=lambda: tuple(known_models()))
    policy: Path = DEFAULT_POLICY
    seed: int = 0
    bootstrap_samples: int = 1000
    text_vectors: Path | None = None
    """Folder where vectors of texts are kept between trainings."""


@dataclass(frozen=True, slots=True)
class System:
    """One ranking's figures over a group's doctors."""

    name: str
    kind: str
    """``baseline``, ``model`` or ``blend``."""
    ndcg: Interval
    recall: Interval
    ndcg_gain: Interval
    """Over the group's best baseline, paired."""
    recall_gain: Interval


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of newness."""

    name: str
    doctors: int
    candidates: float
    """Items ranked for a doctor, median."""
    wanted: float
    """Of them wanted by the doctor, mean."""
    reference: str
    """The best baseline by nDCG."""
    systems: list[System]
    silent: list[str]
    """Who has no opinion on anything here."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much of the feed's first page is new items, over all doctors of the period."""

    doctors: int
    of_page: Interval
    of_wanted: Interval
    of_candidates: Interval
    difference: Interval
    """Page minus wanted, paired."""


@dataclass(frozen=True, slots=True)
class ColdStartReport:
    """One run of ``recmesh evaluate cold-start``."""

    dataset_version: str
    policy: str
    start: str
    seed: int
    bootstrap_samples: int
    new_items: int
    """Items without an event before the period."""
    groups: list[Group]
    exposure: Exposure
    degraded_pages: int
    absent: dict[str, str]
    """Models that could not be trained, and why."""
    seconds: float

    def as_json(self) -> str:
        """The whole report; numbers unrounded."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def cold_start(
    dataset: Dataset, settings: Settings, steps: Steps = unseen_steps
) -> ColdStartReport:
    """Judges what is new in the last fifth of the positive events.

    Models are trained and calibrated on what came before, as ``recmesh train`` does; the blend
    is the feed's whole pipeline with the policy as it is.

    Raises:
        NotFoundError: there is no such model.
        ConfigurationError: the policy cannot be read.
        DataError: the data set is too small to split, or nobody wanted what could be shown.
    """
    started = time.monotonic()
    for name in settings.models:
        trainer(name)  # an unknown name is said before the work
    policy = Policy.load(settings.policy)
    split = TemporalSplit.of(dataset)
    period = ColdPeriod.of(dataset, split.test_start, split.end, policy.popularity_half_life_days)
    trained, absent = _trained(period.known, settings, steps)
    models = {name: serving_model(one) for name, one in trained.items()}

    def served(cases: Sequence[Case], step: str, rerank: bool) -> ServedPages:
        return served_pages(
            period, trained, models, policy, cases, rerank=rerank, progress=steps(step)
        )

    on_new, on_all = period.cases(period.new_items), period.cases()
    if not on_all:
        raise DataError("nothing that was wanted in the period could have been shown")
    pages_of_new = served(on_new, "new items, served", True)
    pages_of_all = served(on_all, "all, served", False)
    newcomers = [row for row, case in enumerate(on_all) if case.user_id in period.new_users]
    published = period.catalog.published_unix_s.astype(np.float64)
    groups = [
        _group(
            "new items",
            on_new,
            {"random": _random(settings.seed), "newest first": _by(published)},
            models,
            pages_of_new.rows,
            period,
            settings,
        ),
        _group(
            "new doctors",
            [on_all[row] for row in newcomers],
            {
                "random": _random(settings.seed),
                "popularity": _by(_popularity(period)),
                "recent popularity": _by(period.catalog.popularity),
            },
            models,
            [pages_of_all.rows[row] for row in newcomers],
            period,
            settings,
        ),
    ]
    return ColdStartReport(
        dataset_version=dataset.version,
        policy=policy.version,
        start=split.test_start.isoformat(),
        seed=settings.seed,
        bootstrap_samples=settings.bootstrap_samples,
        new_items=int(period.new_items.sum()),
        groups=groups,
        exposure=_exposure(on_all, pages_of_all.rows, period, settings),
        degraded_pages=pages_of_new.degraded + pages_of_all.degraded,
        absent=absent,
        seconds=time.monotonic() - started,
    )


def _trained(
    known: EarlierDataset, settings: Settings, steps: Steps
) -> tuple[dict[str, TrainedModel], dict[str, str]]:
    """Models by name, calibrated where a holdout could be had; the others and why."""
    trained: dict[str, TrainedModel] = {}
    absent: dict[str, str] = {}
    for name in settings.models:
        step = steps(name)

        def one(name: str = name, step: Progress = step) -> TrainedModel:
            try:
                holdout = held_out(
                    name,
                    known,
                    until=known.moment,
                    seed=settings.seed,
                    text_vectors=settings.text_vectors,
                    progress=step,
                )
            except DataError:
                holdout = None
            found = fit(
                name,
                known,
                until=known.moment,
                seed=settings.seed,
                text_vectors=settings.text_vectors,
                choices=holdout.choices if holdout else None,
                progress=step,
            )
            return holdout.on(found) if holdout else found

        try:
            trained[name] = one()
        except DataError as error:
            absent[name] = str(error)
    return trained, absent


def _popularity(period: ColdPeriod) -> Float64:
    """Users who wanted each item before the period ``[catalog]``."""
    past = read_interactions(period.known)
    rows = period.catalog.rows(past.item_ids)
    pairs = np.unique(past.users * len(past.item_ids) + past.items)
    return np.bincount(rows[pairs % len(past.item_ids)], minlength=len(period.catalog)).astype(
        np.float64
    )


def _best(candidates: Int64, scores: Float32 | Float64) -> Int64:
    """The candidates with the 100 highest scores, best first; those without a score are out."""
    order = np.argsort(-scores, kind="stable")[:DEEPEST]
    return candidates[order[np.isfinite(scores[order])]]


def _by(scores: Float32 | Float64) -> Ranking:
    """The same scores ``[catalog]`` for everybody."""
    return lambda case: _best(case.candidates, scores[case.candidates])


def _random(seed: int) -> Ranking:
    """Another order for every case."""
    rng = np.random.default_rng(seed)
    return lambda case: rng.permutation(case.candidates)[:DEEPEST]


def _of_model(model: Model, period: ColdPeriod) -> Ranking:
    ids = period.catalog.item_ids

    def ranked(case: Case) -> Int64:
        user = request_user(period.store, case.user_id)
        asked = [ids[row] for row in case.candidates.tolist()]
        scores = model.score(Context(user, SURFACE, case.now_unix_s), asked)
        return _best(case.candidates, scores)

    return ranked


def _judged(cases: Sequence[Case], rankings: Sequence[Int64]) -> tuple[Float64, Float64]:
    """nDCG@10 and recall@100 of every case ``[cases]``."""
    hits = np.zeros((len(cases), DEEPEST), bool)
    for row, (case, ranking) in enumerate(zip(cases, rankings, strict=True)):
        shown = ranking[:DEEPEST]
        hits[row, : len(shown)] = np.isin(shown, case.wanted)
    n_wanted = np.array([len(case.wanted) for case in cases], np.int64)
    return ndcg(hits[:, :K], n_wanted), recall(hits, n_wanted)


def _group(
    name: str,
    cases: Sequence[Case],
    baselines: Mapping[str, Ranking],
    models: Mapping[str, Model],
    pages: Sequence[Int64],
    period: ColdPeriod,
    settings: Settings,
) -> Group:
    """Every system on one group's cases."""
    if not cases:
        return Group(name, 0, 0.0, 0.0, "", [], [])
    rankings = {
        **{system: ("baseline", [rank(c) for c in cases]) for system, rank in baselines.items()},
        **{
            system: ("model", [_of_model(model, period)(case) for case in cases])
            for system, model in models.items()
        },
        BLEND: ("blend", list(pages)),
    }
    silent = [system for system, (_, found) in rankings.items() if not any(map(len, found))]
    figures = {
        system: _judged(cases, found)
        for system, (_, found) in rankings.items()
        if system not in silent
    }
    reference = max(baselines, key=lambda system: float(figures[system][0].mean()))
    resampled = UserBootstrap(len(cases), settings.bootstrap_samples, settings.seed)
    return Group(
        name=name,
        doctors=len(cases),
        candidates=float(np.median([len(case.candidates) for case in cases])),
        wanted=float(np.mean([len(case.wanted) for case in cases])),
        reference=reference,
        systems=[
            System(
                system,
                rankings[system][0],
                resampled.mean(ndcg),
                resampled.mean(recall),
                resampled.difference(ndcg, figures[reference][0]),
                resampled.difference(recall, figures[reference][1]),
            )
            for system, (ndcg, recall) in figures.items()
        ],
        silent=silent,
    )


def _exposure(
    cases: Sequence[Case], pages: Sequence[Int64], period: ColdPeriod, settings: Settings
) -> Exposure:
    def share(rows: Sequence[Int64]) -> Float64:
        return np.array([period.new_items[some].mean() if len(some) else np.nan for some in rows])

    of_page = share([page[:K] for page in pages])
    of_wanted = share([case.wanted for case in cases])
    resampled = UserBootstrap(len(cases), settings.bootstrap_samples, settings.seed)
    return Exposure(
        doctors=len(cases),
        of_page=resampled.mean(of_page),
        of_wanted=resampled.mean(of_wanted),
        of_candidates=resampled.mean(share([case.candidates for case in cases])),
        difference=resampled.difference(of_page, of_wanted),
    )
