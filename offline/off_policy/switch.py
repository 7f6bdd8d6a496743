"""Which threshold Switch-DR uses: the one whose bound on the squared error is least.

Wang, Agarwal & Dudík, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits", ICML
2017, section 4.2: estimated variance, plus the square of a bound on the bias. What is not corrected
is wrong by at most the largest reward, for as much of the new policy's choices as lie beyond the
threshold; that share is the mean of the weights beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.offline.off_policy.estimators import doubly_robust
from recmesh.offline.off_policy.interval import Interval, interval
from recmesh.offline.off_policy.logged_actions import LoggedActions

Float64 = npt.NDArray[np.float64]

QUANTILES = (0.9999, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5)
"""Of the log's weights, each a threshold; besides none (DR) and 0 (the model alone)."""


@dataclass(frozen=True, slots=True)
class SwitchEstimate:
    """Switch-DR's estimate."""

    interval: Interval
    """Reaches as much further to both sides as the bias may be."""
    threshold: float
    """Largest weight that was corrected with."""
    bias_bound: float


def switch_estimate(
    log: LoggedActions,
    new: Float64,
    predicted: Float64,
    weight: Float64,
    largest_reward: float,
    alpha: float = 0.05,
) -> SwitchEstimate:
    """Estimates under the best threshold.

    Args:
        log: what was logged.
        new: the new policy's probabilities ``[n, actions]``.
        predicted: cross-fitted rewards ``[n, actions]``, in [0, largest_reward].
        weight: ``[n]``.
        largest_reward: bound on an action's expected reward; the lower it is known to be, the
            more weights may go uncorrected. Rewards are at least 0.
        alpha: of the interval.
    """
    best: SwitchEstimate | None = None
    least = np.inf
    for threshold in (np.inf, *np.quantile(weight, QUANTILES).tolist(), 0.0):
        found = interval(doubly_robust(log, new, predicted, weight, threshold), log.unit, alpha)
        bias = largest_reward * float(np.where(weight > threshold, weight, 0.0).mean())
        squared_error = found.standard_error**2 + bias**2
        if squared_error < least or best is None:
            least = squared_error
            wide = Interval(found.value, found.standard_error, found.low - bias, found.high + bias)
            best = SwitchEstimate(wide, float(threshold), bias)
    assert best is not None  # there is always the threshold of DR
    return best
