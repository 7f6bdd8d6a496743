"""Tunes a surface: a Pareto front, found on one period and judged on the next."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recmesh.models.model import Progress, silent
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.offline.tuning.candidates import Candidates, Float64, candidates_of
from recmesh.offline.tuning.covering import covering
from recmesh.offline.tuning.equal_ndcg import at_equal_ndcg
from recmesh.offline.tuning.front import HypervolumeBootstrap, non_dominated
from recmesh.offline.tuning.metrics import METRICS
from recmesh.offline.tuning.opinions import opinions
from recmesh.offline.tuning.parameters import SEARCH_SPACE, Parameters
from recmesh.offline.tuning.report import Compared, FrontPoint, TuningReport
from recmesh.offline.tuning.rivals import Rival, fixed_rivals, measured, scalarised
from recmesh.offline.tuning.study import (
    DEFAULT_SAMPLER,
    finished,
    open_study,
    run_trials,
    tried,
)
from recmesh.offline.tuning.trial import TrialRun
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError

TUNED = "tuned front"
RANDOM_SAMPLER = "random"
Steps = Callable[[str], Progress]
Search = Callable[[TrialRun, str, Sequence[Parameters], Progress], None]
"""Brings a study to its trials: what fills pages, the study's name, where to start."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to tune."""

    surface: str = "feed"
    trials: int = 1000
    metrics: tuple[str, ...] = ()
    """Of :data:`METRICS`; none: nDCG and diversity."""
    sampler: str = DEFAULT_SAMPLER
    seed: int = 0
    slots: int = 10
    bootstrap_samples: int = 200


@dataclass(frozen=True, slots=True)
class Tuned:
    """The front, and how it was judged."""

    report: TuningReport
    points: list[Parameters]
    """Of the front, aligned with the report's points."""


def _surface(policy: Policy, name: str) -> SurfacePolicy:
    surface = policy.surfaces.get(name)
    if surface is None:
        raise ConfigurationError(
            f"the policy has no surface {name!r}; it has {', '.join(policy.surfaces)}"
        )
    if surface.universe != "items" or surface.query == "required":
        raise ConfigurationError(
            f"surface {name!r} cannot be tuned on past events: only surfaces of items without a "
            "query can"
        )
    return surface


def _metrics(settings: Settings, candidates: Candidates) -> tuple[str, ...]:
    paid = bool((candidates.paid > 0).any())
    chosen = settings.metrics or ("ndcg", "diversity")
    for name in chosen:
        if name not in METRICS:
            raise ConfigurationError(f"no metric {name!r}; there are {', '.join(METRICS)}")
    if len(set(chosen)) != len(chosen) or not 2 <= len(chosen) <= 4 or "ndcg" not in chosen:
        raise ConfigurationError(
            f"metrics {', '.join(chosen)}: two to four different ones, ndcg among them"
        )
    if "delivery" in chosen and not paid:
        raise ConfigurationError("metric delivery: no campaign runs in the validation period")
    return chosen


@dataclass(frozen=True)
class Tuning:
    """A tuning of one surface; :meth:`trial_run` is what workers need, too."""

    dataset: Dataset
    policy: Policy
    settings: Settings
    folder: Path
    """Where studies and scores are kept."""
    text_vectors: Path | None = None

    def study_name(self) -> str:
        """Changes with everything that makes trials comparable."""
        s = self.settings
        compared = [self.dataset.version, self.policy.version, s.surface, s.metrics]
        made_of = [SEARCH_SPACE, *compared, s.slots, s.seed]
        return f"{s.surface}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}"

    @property
    def journal(self) -> Path:
        """The file of the studies."""
        return self.folder / f"{self.study_name()}.journal"

    def _candidates(
        self, of: Period, calibrated_on: Period, progress: Progress
    ) -> tuple[Candidates, dict[str, str]]:
        seen = opinions(
            of,
            self.dataset.version,
            self.settings.seed,
            self.folder / "scores",
            self.text_vectors,
            progress,
        )
        fitted_on = opinions(
            calibrated_on,
            self.dataset.version,
            self.settings.seed,
            self.folder / "scores",
            self.text_vectors,
            progress,
        )
        calibrations = fitted_on.calibrations(calibrated_on)
        half_life = self.policy.popularity_half_life_days
        known = {name: scores for name, scores in seen.raw.items() if name in fitted_on.raw}
        campaigns = "delivery" in self.settings.metrics
        return candidates_of(known, calibrations, of, half_life, campaigns), seen.absent

    def trial_run(self, progress: Progress = silent) -> TrialRun:
        """What trials are run on: the validation period."""
        split = TemporalSplit.of(self.dataset)
        of = period(self.dataset, split.validation_start, split.test_start)
        candidates, _ = self._candidates(of, of, progress)
        surface = _surface(self.policy, self.settings.surface)
        return TrialRun(
            candidates, surface, _metrics(self.settings, candidates), self.settings.slots
        )

    def run(
        self,
        steps: Steps,
        search: Search | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tuned:
        """Searches, and judges what was found once, on the test period.

        Args:
            steps: opens a step by name; returns who is told how far it is.
            search: brings the study to its trials, by whatever workers; default: here.
            stopped: asked between trials; what was tried until then is judged.

        Raises:
            ConfigurationError: surface, metrics or sampler cannot be used.
            DataError: the data set is too small to split, or no model has an opinion.
        """
        started = time.monotonic()
        settings = self.settings
        surface = _surface(self.policy, settings.surface)
        split = TemporalSplit.of(self.dataset)
        validation = period(self.dataset, split.validation_start, split.test_start)
        test = period(self.dataset, split.test_start, split.end)
        run = self.trial_run(steps("scores before the validation period"))
        study = open_study(
            self.journal, settings.sampler, run.metrics, settings.sampler, settings.seed
        )
        begun = time.monotonic()
        before = len(finished(study))
        fixed = fixed_rivals(run)
        told = steps(f"search by {settings.sampler}")
        if search is None:
            run_trials(study, run, settings.trials, fixed.starts, told, stopped)
        else:
            search(run, settings.sampler, fixed.starts, told)
        searched_s = time.monotonic() - begun
        done = tried(study, run)
        random_study = open_study(self.journal, "rival", run.metrics, RANDOM_SAMPLER, settings.seed)
        run_trials(random_study, run, len(done.parameters), (), steps("search at random"))
        found = covering(done, run, fixed.incumbents, settings.seed, steps("front"))
        others = [*fixed.rivals, scalarised(tried(random_study, run), settings.seed)]

        told = steps("scores before the test period")
        candidates, absent = self._candidates(test, validation, told)
        judged = TrialRun(candidates, surface, run.metrics, settings.slots)
        report = _judge(judged, found, others, settings, steps("bootstrap"))
        return Tuned(
            TuningReport(
                surface=settings.surface,
                metrics=run.metrics,
                dataset_version=self.dataset.version,
                policy_version=self.policy.version,
                sampler=settings.sampler,
                trials=len(done.parameters),
                seed=settings.seed,
                slots=settings.slots,
                bootstrap_samples=settings.bootstrap_samples,
                validation_start=split.validation_start.isoformat(),
                test_start=split.test_start.isoformat(),
                validation_users=len(run.candidates),
                test_users=len(candidates),
                absent=absent,
                trials_per_minute=60 * (len(done.parameters) - before) / max(searched_s, 1e-9),
                seconds=time.monotonic() - started,
                points=report.points,
                fronts=report.fronts,
                differences=report.differences,
            ),
            found,
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    points: list[FrontPoint]
    fronts: list[Compared]
    differences: list[Compared]


def _judge(
    run: TrialRun,
    found: list[Parameters],
    others: Sequence[Rival],
    settings: Settings,
    progress: Progress,
) -> _Judged:
    values = {TUNED: measured(run, found)}
    for number, rival in enumerate(others):
        values[rival.name] = measured(run, rival.points)
        progress(number + 1, 2 * len(others) + 1, "fronts judged")
    n_users = len(run.candidates)
    bootstrap = HypervolumeBootstrap(n_users, settings.bootstrap_samples, settings.seed)
    fronts, differences = [], []
    for number, (name, own) in enumerate(values.items()):
        fronts.append(
            Compared(
                name,
                len(own),
                bootstrap.volume(own),
                at_equal_ndcg(values[TUNED], own, run.metrics, bootstrap),
            )
        )
        if name != TUNED:
            gain = bootstrap.difference(values[TUNED], own)
            differences.append(Compared(name, len(own), gain, {}))
        progress(len(others) + number + 1, 2 * len(others) + 1, "fronts judged")
    means, errors = _summary(values[TUNED])
    best = set(non_dominated(means).tolist())
    points = [
        FrontPoint(
            number,
            dict(zip(run.metrics, mean.tolist(), strict=True)),
            dict(zip(run.metrics, error.tolist(), strict=True)),
            number in best,
            parameters.overrides(),
        )
        for number, (parameters, mean, error) in enumerate(zip(found, means, errors, strict=True))
    ]
    return _Judged(points, fronts, differences)


def _summary(values: Float64) -> tuple[Float64, Float64]:
    """Mean and half the normal 95% interval of every point ``[points, metrics]``."""
    error = 1.96 * values.std(axis=1) / np.sqrt(values.shape[1])
    return values.mean(axis=1), error
