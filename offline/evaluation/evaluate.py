"""Models, baselines and the blend on a global temporal split of one data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.training import item_texts
from recmesh.models.registry import known_models, trainer
from recmesh.offline.evaluation import baselines
from recmesh.offline.evaluation.blend_tuning import TunedBlend, tune_blend
from recmesh.offline.evaluation.bootstrap import Interval, UserBootstrap
from recmesh.offline.evaluation.circumstances import Circumstances
from recmesh.offline.evaluation.figures import (
    JudgedSystem,
    exposure_curve,
    figures_of,
    measured,
    slice_figures,
)
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.page_judge import PageJudge
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.report import SEGMENTS, Comparison, DataFacts, Report, System
from recmesh.offline.evaluation.served_blend import blended
from recmesh.offline.evaluation.served_scores import SURFACE, served_scores
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.offline.evaluation.user_slices import user_slices
from recmesh.offline.metrics.relevance import ndcg
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

Steps = Callable[[str], Progress]
"""Opens a step of the work by name; returns who is told how far it is."""

BLEND = "blend"


def unseen_steps(_: str) -> Progress:
    """Steps that nobody looks at."""
    return silent


@dataclass(frozen=True, slots=True)
class Settings:
    """How to evaluate."""

    k: int = 10
    """Length of the judged page."""
    models: tuple[str, ...] = field(default_factory=lambda: tuple(known_models()))
    seed: int = 0
    bootstrap_samples: int = 1000
    text_vectors: Path | None = None
    """Folder where vectors of texts are kept between trainings."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The report, and the blend it judged."""

    report: Report
    tuned: TunedBlend


def evaluate(dataset: Dataset, settings: Settings, steps: Steps = unseen_steps) -> Outcome:
    """Judges every system once on the test period.

    Everything that is chosen — weights, calibrations, half-lives — is chosen on the
    validation period, with models trained before it. Then models are trained anew on all
    that comes before the test.

    Raises:
        NotFoundError: there is no such model.
        DataError: the data set is too small to split, or no model has an opinion.
    """
    started = time.monotonic()
    for name in settings.models:
        trainer(name)  # an unknown name is said before the work
    split = TemporalSplit.of(dataset)
    validation = period(dataset, split.validation_start, split.test_start)
    test = period(dataset, split.test_start, split.end)
    absent: dict[str, str] = {}
    raw = _opinions(validation, settings.models, settings, steps, absent)
    tuned = tune_blend(raw, validation, settings.k, settings.seed, steps("blend"))
    recent_days = _best_half_life(validation, settings.k)
    final = _opinions(test, tuple(raw), settings, steps, absent)
    if not final:
        raise DataError("no model has an opinion on any test user")
    feed = Policy.load(DEFAULT_POLICY).surfaces[SURFACE]
    judge = PageJudge(test, settings.k, feed.half_life_days)

    def judged(name: str, kind: str, scores: Float32) -> JudgedSystem:
        return JudgedSystem(name, kind, judge(top_items(scores, test.seen, settings.k)))

    step = steps("baselines")
    systems = []
    simple = baselines.baselines(test, settings.seed, recent_days)
    for number, (name, scores) in enumerate(simple.items()):
        step(number, len(simple), "baselines judged")
        systems.append(judged(name, "baseline", scores()))
    step(len(simple), len(simple), "baselines judged")
    systems += [judged(name, "model", scores) for name, scores in final.items()]
    systems.append(judged(BLEND, "blend", blended(final, test, tuned.blend)))

    circumstances = Circumstances.of(test, recent_days)
    segments = {"known": test.is_known, "all": np.ones(len(test.users), bool)}
    only_new = {"known": test.known_users_wanting_only_new, "all": test.users_wanting_only_new}
    step = steps("bootstrap")
    figures: dict[str, dict[str, dict[str, Interval]]] = {s.name: {} for s in systems}
    comparisons: list[Comparison] = []
    remarks: dict[str, str] = {}
    for number, (segment, users) in enumerate(segments.items()):
        step(number, len(segments), "groups of users resampled")
        if not users.any():
            continue
        bootstrap = UserBootstrap(int(users.sum()), settings.bootstrap_samples, settings.seed)
        for system in systems:
            figures[system.name][segment] = figures_of(
                system.pages, users, only_new[segment], bootstrap
            )
        comparison, lost = _compared(systems, users, segment, bootstrap, circumstances, settings.k)
        comparisons.append(comparison)
        remarks = lost | remarks  # what was said of the users with a history is enough
    step(len(segments), len(segments), "groups of users resampled")
    sliced = slice_figures(
        systems, user_slices(test), settings.bootstrap_samples, settings.seed, steps("slices")
    )
    report = Report(
        dataset_version=dataset.version,
        k=settings.k,
        seed=settings.seed,
        bootstrap_samples=settings.bootstrap_samples,
        validation_start=split.validation_start.isoformat(),
        test_start=split.test_start.isoformat(),
        users={segment: int(users.sum()) for segment, users in segments.items()},
        catalogue=len(test.catalogue),
        diversity_on=judge.likeness.meaning,
        data=DataFacts.of(dataset, test),
        metrics=measured(figures, settings.k),
        systems=[System(s.name, s.kind, figures[s.name]) for s in systems],
        comparisons=comparisons,
        slices=sliced,
        lorenz={s.name: exposure_curve(s.pages.exposure) for s in systems},
        weights=tuned.blend.weights,
        popularity_half_life_days=tuned.blend.popularity_half_life_days,
        validation_ndcg=tuned.validation_ndcg,
        validation_users=len(validation.users),
        trials=tuned.trials,
        absent=absent,
        circumstances=circumstances,
        remarks=list(remarks.values()),
        seconds=time.monotonic() - started,
    )
    return Outcome(report, tuned)


def _opinions(
    of: Period,
    models: tuple[str, ...],
    settings: Settings,
    steps: Steps,
    absent: dict[str, str],
) -> dict[str, Float32]:
    """Raw scores of the models, trained before the period; the others go to ``absent``."""
    opinions: dict[str, Float32] = {}
    for name in models:
        step = steps(name)
        try:
            trained = fit(
                name,
                of.known,
                until=of.known.moment,
                seed=settings.seed,
                text_vectors=settings.text_vectors,
                progress=step,
            )
        except DataError as error:
            absent[name] = str(error)
            continue
        scores = served_scores(serving_model(trained), of, step)
        if np.isfinite(scores).any():
            opinions[name] = scores
        else:
            absent[name] = _silence(name, of.known)
    return opinions


def _silence(model: str, dataset: Dataset) -> str:
    """Why a model has no opinion on any user."""
    if model == "network" and not len(dataset.edges):
        return "the data set has no edges"
    if model == "nlp" and not any(item_texts(dataset)):
        return "the data set's items have no text"
    return "it has no opinion on any user"


def _best_half_life(validation: Period, k: int) -> float:
    """The recent-popularity baseline's half-life, chosen on the validation period."""
    shape = (len(validation.users), len(validation.catalogue))
    n_wanted = wanted_counts(validation.wanted)

    def quality(half_life_days: float) -> float:
        scores = baselines.recent_popularity(validation, half_life_days)
        best = top_items(np.broadcast_to(scores, shape), validation.seen, k)
        return float(ndcg(hits_of(best, validation.wanted), n_wanted).mean())

    return max(baselines.RECENT_HALF_LIVES_DAYS, key=quality)


def _compared(
    systems: list[JudgedSystem],
    users: npt.NDArray[np.bool_],
    segment: str,
    bootstrap: UserBootstrap,
    circumstances: Circumstances,
    k: int,
) -> tuple[Comparison, dict[str, str]]:
    """The blend against the segment's best baseline, and a remark on each model that loses."""
    ndcg = {system.name: system.pages.by_user["ndcg"][users] for system in systems}
    rivals = [system.name for system in systems if system.kind == "baseline"]
    rival = max(rivals, key=lambda name: float(ndcg[name].mean()))
    remarks: dict[str, str] = {}
    for name in (system.name for system in systems if system.kind != "baseline"):
        difference = bootstrap.difference(ndcg[name], ndcg[rival])
        if difference.value < 0:
            remarks[name] = (
                f"{name} loses to {rival} on {SEGMENTS[segment]}: nDCG@{k} "
                f"{ndcg[name].mean():.3f} against {ndcg[rival].mean():.3f}, difference "
                f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]. "
                f"Measured: {circumstances.bearing_on(name)}."
            )
    difference = bootstrap.difference(ndcg[BLEND], ndcg[rival])
    return Comparison(segment, rival, difference), remarks
