"""A point of a surface's Pareto front, and the one that a request's preferences ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

METRIC_OF_OBJECTIVE = {"relevance": "ndcg", "campaign": "delivery"}
"""What an objective is measured by, where that has another name."""


class OperatingPoint(BaseModel):
    """How a page is made at one point of the front; found by ``recmesh tune``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: dict[str, float]
    """What pages were worth in the test period, by metric."""
    model_weights: dict[str, float]
    objective_weights: dict[str, float]
    half_life_days: float = Field(gt=0)
    """Of freshness, of content types that the policy does not name."""
    diversity_strength: float = Field(ge=0, le=1)
    calibration_weight: float = Field(ge=0, le=10, default=0.0)
    largest_price: float | None = Field(ge=0, le=1, default=None)
    """Of campaigns, at which the pages were measured; None: the surface's, delivery was not
    tuned."""


def objectives_of(front: Sequence[OperatingPoint]) -> set[str]:
    """The objectives that a preference may name."""
    objective_of = {metric: name for name, metric in METRIC_OF_OBJECTIVE.items()}
    return {objective_of.get(metric, metric) for point in front for metric in point.metrics}


def preferred_point(
    front: Sequence[OperatingPoint], preferences: Mapping[str, float]
) -> OperatingPoint:
    """The front's point that comes nearest to the preferences.

    Metrics are scaled to [0, 1] over the front. A point misses each by what it lacks of the best,
    times the preference for it; the one whose largest miss is smallest is taken (the weighted
    Chebyshev distance, which reaches every point of a front, also where it is not convex; Bowman
    1976), of equal ones that with the smallest sum. Preferences of 0 for all are none.

    Args:
        front: at least one point; all have the same metrics.
        preferences: by objective, in [0, 1]; those of the front's objectives count.
    """
    weights = {
        metric: preferences.get(name, 0.0)
        for name in objectives_of(front)
        for metric in (METRIC_OF_OBJECTIVE.get(name, name),)
    }
    bounds = {
        metric: (
            min(point.metrics[metric] for point in front),
            max(point.metrics[metric] for point in front),
        )
        for metric in weights
    }

    def misses(point: OperatingPoint) -> tuple[float, float]:
        lacks = [
            weight
            * (bounds[metric][1] - point.metrics[metric])
            / max(bounds[metric][1] - bounds[metric][0], 1e-12)
            for metric, weight in weights.items()
        ]
        return max(lacks, default=0.0), sum(lacks)

    return min(front, key=misses)
