"""The whole analysis of an experiment, as its plan says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from recmesh.offline.experiments.confidence_sequence import (
    always_valid_p,
    mixture_scale,
    radius,
)
from recmesh.offline.experiments.effect import ARM, ArmMoments, Effect
from recmesh.offline.experiments.guardrail import Guardrail, guardrail
from recmesh.offline.experiments.heterogeneity import Interaction, interaction
from recmesh.offline.experiments.multiplicity import benjamini_hochberg, holm
from recmesh.offline.experiments.plan import AnalysisPlan, Metric
from recmesh.storage.errors import DataError

MISMATCH_P = 0.001
"""Below it the arms' sizes contradict their shares, and no result is to be believed.

Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.
"""

FEWEST_IN_SLICE = 100
"""Units that every arm needs in a slice; smaller slices are named and left out."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Units of every arm against the arms' shares (chi-square)."""

    units: dict[str, int]
    p: float

    @property
    def mismatch(self) -> bool:
        """Whether assignment or logging lost units of one arm more than of another."""
        return self.p < MISMATCH_P


@dataclass(frozen=True, slots=True)
class GoalResult:
    """What one arm did to one goal; intervals are of the difference, uncorrected."""

    arm: str
    metric: str
    effect: Effect
    interval: tuple[float, float]
    """At one look that was planned."""
    always_valid_interval: tuple[float, float]
    p_holm: float
    """At one planned look, corrected over all goals and arms."""
    always_valid_p_holm: float
    """May be looked at any number of times; corrected likewise."""


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """What one arm did to one guardrail."""

    arm: str
    metric: str
    effect: Effect
    guardrail: Guardrail


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One arm's effect on one goal in every value of one column."""

    arm: str
    metric: str
    column: str
    effects: dict[str, Effect]
    interaction: Interaction
    p_benjamini_hochberg: float
    """That the effect is the same everywhere; corrected over all arms, goals and columns."""
    left_out: tuple[str, ...]
    """Values with too few units."""


@dataclass(frozen=True, slots=True)
class ExperimentAnalysis:
    """Results by arm and metric, in the plan's order. All false if ``sample_ratio.mismatch``."""

    sample_ratio: SampleRatio
    goals: list[GoalResult]
    guardrails: list[GuardrailResult]
    slices: list[SliceResult]


def sample_ratio(units: dict[str, int], shares: dict[str, float]) -> SampleRatio:
    """Compares the arms' units to their shares; both by arm."""
    counts = np.array([units.get(arm, 0) for arm in shares], np.float64)
    if counts.sum() == 0:
        raise DataError("no unit has any of the experiment's arms")
    expected = np.array(list(shares.values())) * counts.sum()
    return SampleRatio(
        {arm: units.get(arm, 0) for arm in shares}, float(stats.chisquare(counts, expected).pvalue)
    )


def analyze(units: pa.Table, plan: AnalysisPlan) -> ExperimentAnalysis:
    """Analyses every unit that an experiment has seen so far.

    Args:
        units: one row a unit: its arm in column ``arm``, the metrics' columns, the slices'.
            Units without an event belong in it, with zeros.
        plan: fixed before.

    Raises:
        DataError: a column or a whole arm is missing, or an arm is not the experiment's.
    """
    arms = [arm.name for arm in plan.experiment.arms]
    moments = ArmMoments(units, plan.metrics)
    unknown = sorted(set(pc.unique(units[ARM]).to_pylist()) - set(arms))
    if unknown:
        raise DataError(f"arm {unknown[0]} is not one of {', '.join(arms)}")
    ratio = sample_ratio(
        {arm: moments.units(arm) for arm in arms},
        {arm.name: arm.share for arm in plan.experiment.arms},
    )
    scale = mixture_scale(plan.planned_units, plan.alpha)
    pairs = [(arm, metric) for arm in arms[1:] for metric in plan.metrics]
    effects = {(arm, metric.name): moments.effect(metric, arms[0], arm) for arm, metric in pairs}
    goals = [(arm, metric) for arm, metric in pairs if metric.margin is None]
    return ExperimentAnalysis(
        sample_ratio=ratio,
        goals=_goals(goals, effects, scale, plan.alpha),
        guardrails=[
            GuardrailResult(
                arm,
                metric.name,
                effects[arm, metric.name],
                guardrail(effects[arm, metric.name], metric, scale, plan.alpha),
            )
            for arm, metric in pairs
            if metric.margin is not None
        ],
        slices=_slices(units, plan, goals),
    )


def _goals(
    goals: list[tuple[str, Metric]],
    effects: dict[tuple[str, str], Effect],
    scale: float,
    alpha: float,
) -> list[GoalResult]:
    own = [effects[arm, metric.name] for arm, metric in goals]
    once = holm(np.array([effect.p for effect in own]))
    z = np.array([effect.z for effect in own])
    ever = holm(always_valid_p(z, np.array([float(effect.units) for effect in own]), scale))
    results = []
    for (arm, metric), effect, p, p_ever in zip(goals, own, once, ever, strict=True):
        reach = float(radius(effect.standard_error, effect.units, scale, alpha))
        results.append(
            GoalResult(
                arm=arm,
                metric=metric.name,
                effect=effect,
                interval=effect.interval(alpha),
                always_valid_interval=(effect.difference - reach, effect.difference + reach),
                p_holm=float(p),
                always_valid_p_holm=float(p_ever),
            )
        )
    return results


def _slices(
    units: pa.Table, plan: AnalysisPlan, goals: list[tuple[str, Metric]]
) -> list[SliceResult]:
    control = plan.experiment.arms[0].name
    found = []
    for column in plan.slices:
        if column not in units.column_names:
            raise DataError(f"the units' table has no column {column}, which is a slice")
        values = sorted(str(value) for value in pc.unique(units[column]).to_pylist())
        text = units[column].cast(pa.string()).fill_null("None")
        parts = {
            value: ArmMoments(units.filter(pc.equal(text, value)), plan.metrics) for value in values
        }
        for arm, metric in goals:
            large = {
                value: part
                for value, part in parts.items()
                if min(part.units(control), part.units(arm)) >= FEWEST_IN_SLICE
            }
            effects = {v: part.effect(metric, control, arm) for v, part in large.items()}
            left_out = tuple(value for value in values if value not in large)
            found.append((arm, metric.name, column, effects, interaction(effects), left_out))
    adjusted = benjamini_hochberg(np.array([row[4].p for row in found]))
    return [
        SliceResult(arm, metric, column, effects, test, float(p), left_out)
        for (arm, metric, column, effects, test, left_out), p in zip(found, adjusted, strict=True)
    ]
