"""What a tuned front must beat: each rival is a way to come by operating points without a search
for a front. They are also where the search starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from recmesh.offline.tuning.candidates import Float64
from recmesh.offline.tuning.parameters import (
    LARGEST_OBJECTIVE,
    LARGEST_PRICE,
    LARGEST_STRENGTH,
    Parameters,
)
from recmesh.offline.tuning.study import Tried
from recmesh.offline.tuning.trial import TrialRun

BEST_MODEL = "best single model"
UNIFORM = "uniform blend"
HAND_SET = "hand-set policy"
RANDOM = "scalarised random search"
SWEEP = 17
"""Values that one metric's lever is swept over; fewer of each where there are more."""
SCALARISATIONS = 21


@dataclass(frozen=True, slots=True)
class Rival:
    """A way to come by operating points."""

    name: str
    points: list[Parameters]


@dataclass(frozen=True, slots=True)
class Fixed:
    """What needs no draws; chosen on one period."""

    rivals: list[Rival]
    singles: list[Parameters]
    """Every scorer alone."""

    @property
    def incumbents(self) -> list[Parameters]:
        """What one would serve without tuning: the rivals that are a single point."""
        return [rival.points[0] for rival in self.rivals if len(rival.points) == 1]

    @property
    def starts(self) -> list[Parameters]:
        """Every point, so that a search ends with nothing less."""
        points = [*(point for rival in self.rivals for point in rival.points), *self.singles]
        return [point for place, point in enumerate(points) if point not in points[:place]]


def _pulled(point: Parameters, metric: str, by: float) -> Parameters:
    """The point with the lever of the metric pulled, ``by`` in [0, 1]."""
    if metric == "diversity":
        # Small strengths matter most.
        return replace(point, diversity_strength=LARGEST_STRENGTH * by**2)
    if metric == "delivery":
        return replace(point, largest_price=LARGEST_PRICE * by**2)
    weights = {**point.objective_weights, metric: LARGEST_OBJECTIVE * by}
    return replace(point, objective_weights=weights)


def _swept(point: Parameters, metrics: Sequence[str]) -> list[Parameters]:
    """The point with every mixture of the metrics' levers."""
    each = np.linspace(0.0, 1.0, max(round(SWEEP ** (1 / len(metrics))), 3)).tolist()
    swept = []
    for pulls in product(each, repeat=len(metrics)):
        own = point
        for metric, by in zip(metrics, pulls, strict=True):
            own = _pulled(own, metric, by)
        swept.append(own)
    return swept


def fixed_rivals(run: TrialRun) -> Fixed:
    """The rivals that need no draws, chosen on the run's period."""
    scorers = run.candidates.scorers
    hand_set = Parameters.of(run.surface, scorers)
    plain = replace(
        hand_set,
        objective_weights=dict.fromkeys(hand_set.objective_weights, 0.0),
        diversity_strength=0.0,
        calibration_weight=0.0,
        largest_price=0.0,
    )
    singles = [
        replace(plain, model_weights={name: float(name == scorer) for name in scorers})
        for scorer in scorers
    ]
    ndcg = [float(run(point)[:, run.metrics.index("ndcg")].mean()) for point in singles]
    best = singles[int(np.argmax(ndcg))]
    further = [name for name in run.metrics if name != "ndcg"]
    uniform = replace(plain, model_weights=dict.fromkeys(scorers, 1.0))
    rivals = [
        Rival(BEST_MODEL, [best]),
        Rival(UNIFORM, [uniform]),
        Rival(HAND_SET, [hand_set]),
        Rival(f"best single model, {' and '.join(further)} swept", _swept(best, further)),
    ]
    return Fixed(rivals, singles)


def scalarised(random: Tried, seed: int) -> Rival:
    """The best random points by weighted sums of the scaled metrics."""
    values = random.values
    if not len(values):
        return Rival(RANDOM, [])
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    generator = np.random.default_rng(seed)
    weights: Float64 = generator.dirichlet(np.ones(values.shape[1]), SCALARISATIONS)
    best = np.unique((scaled @ weights.T).argmax(axis=0))
    return Rival(RANDOM, [random.parameters[row] for row in best.tolist()])


def measured(run: TrialRun, points: Sequence[Parameters]) -> Float64:
    """The metrics of every user's page ``[points, users, metrics]``."""
    return np.stack([run(point) for point in points])
