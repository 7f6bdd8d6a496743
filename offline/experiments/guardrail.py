"""Guardrails: whether an arm is shown to do no more harm than a margin (non-inferiority)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from recmesh.offline.experiments.confidence_sequence import always_valid_p
from recmesh.offline.experiments.effect import Effect
from recmesh.offline.experiments.plan import Metric
from recmesh.storage.errors import DataError

Verdict = Literal["held", "broken", "open"]
"""Shown to be within the margin, shown to be past it, or not shown yet."""


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A guardrail's state."""

    verdict: Verdict
    """At one look that was planned: one-sided tests at α."""
    always_valid: Verdict
    """May be looked at any number of times; two-sided at α, so the stricter one."""
    p: float
    """One-sided p of harm at least as large as the margin, at one planned look."""


def guardrail(effect: Effect, metric: Metric, scale: float, alpha: float) -> Guardrail:
    """Tests the logarithm of treatment over control against that of the margin.

    Where the metric is not above 0 in both arms a share of it means nothing, and it is open.

    Args:
        effect: of the arm on the metric.
        metric: with a margin.
        scale: from :func:`mixture_scale`.
        alpha: of each test.

    Raises:
        DataError: the metric has no margin.
    """
    if metric.margin is None:
        raise DataError(f"metric {metric.name} has no margin, so it is no guardrail")
    if math.isnan(effect.log_ratio):
        return Guardrail(verdict="open", always_valid="open", p=1.0)
    sign = 1.0 if metric.better == "higher" else -1.0
    bound = math.log1p(-sign * metric.margin)
    distance = sign * (effect.log_ratio - bound)
    error = effect.log_ratio_error
    z = distance / error if error > 0 else math.copysign(math.inf, distance)
    p = float(stats.norm.sf(z))
    sequential = float(always_valid_p(z, effect.units, scale))
    return Guardrail(
        verdict="held" if p <= alpha else "broken" if 1 - p <= alpha else "open",
        always_valid=("held" if z > 0 else "broken") if sequential <= alpha else "open",
        p=p,
    )
