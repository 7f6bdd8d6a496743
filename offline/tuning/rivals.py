"""What a tuned front must beat, with as many or more trials of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recmesh.offline.tuning.candidates import Float64
from recmesh.offline.tuning.front import non_dominated
from recmesh.offline.tuning.parameters import LARGEST_STRENGTH, Parameters
from recmesh.offline.tuning.study import Tried
from recmesh.offline.tuning.trial import TrialRun

BEST_MODEL = "best single model"
UNIFORM = "uniform blend"
HAND_SET = "hand-set policy"
MMR_SWEEP = "best single model, diversity swept"
RANDOM = "scalarised random search"
SWEEP = 17
SCALARISATIONS = 21


@dataclass(frozen=True, slots=True)
class Rival:
    """A way to come by operating points."""

    name: str
    points: list[Parameters]


def rivals(run: TrialRun, random: Tried, seed: int) -> list[Rival]:
    """The rivals, chosen on the run's period.

    Args:
        run: of the validation period.
        random: points drawn at random, as many as the tuned front had trials.
        seed: of the scalarisations.
    """
    scorers = run.candidates.scorers
    hand_set = Parameters.of(run.surface, scorers)
    plain = replace(
        hand_set,
        objective_weights=dict.fromkeys(hand_set.objective_weights, 0.0),
        diversity_strength=0.0,
    )
    single = [
        replace(plain, model_weights={name: float(name == scorer) for name in scorers})
        for scorer in scorers
    ]
    ndcg = [float(run(point)[:, run.metrics.index("ndcg")].mean()) for point in single]
    best = single[int(np.argmax(ndcg))]
    swept = [
        replace(best, diversity_strength=float(strength))
        for strength in np.linspace(0.0, LARGEST_STRENGTH, SWEEP)
    ]
    uniform = replace(plain, model_weights=dict.fromkeys(scorers, 1.0))
    return [
        Rival(BEST_MODEL, [best]),
        Rival(UNIFORM, [uniform]),
        Rival(HAND_SET, [hand_set]),
        Rival(MMR_SWEEP, swept),
        Rival(RANDOM, _scalarised(random, seed)),
    ]


def _scalarised(random: Tried, seed: int) -> list[Parameters]:
    """The best random points by weighted sums of the scaled metrics."""
    values = random.values
    if not len(values):
        return []
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    generator = np.random.default_rng(seed)
    weights: Float64 = generator.dirichlet(np.ones(values.shape[1]), SCALARISATIONS)
    best = np.unique((scaled @ weights.T).argmax(axis=0))
    return [random.parameters[row] for row in best.tolist()]


def front(tried: Tried) -> list[Parameters]:
    """The points that nothing tried dominates."""
    return [tried.parameters[row] for row in non_dominated(tried.values).tolist()]


def measured(run: TrialRun, points: Sequence[Parameters]) -> Float64:
    """The metrics of every user's page ``[points, users, metrics]``."""
    return np.stack([run(point) for point in points])
