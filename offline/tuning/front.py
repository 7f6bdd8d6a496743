"""Pareto fronts: which points nothing beats in everything, and how much they cover together."""

from __future__ import annotations

import moocore
import numpy as np

from recmesh.offline.evaluation.bootstrap import LEVEL, Interval
from recmesh.offline.tuning.candidates import Float64, Int64


def non_dominated(points: Float64) -> Int64:
    """Rows of ``points`` ``[n, metrics]``, larger is better, that no other is at least as good
    as in everything and better in something; of equal ones the first."""
    if not len(points):
        return np.empty(0, np.int64)
    return np.flatnonzero(moocore.is_nondominated(points, maximise=True)).astype(np.int64)


def hypervolume(points: Float64) -> float:
    """Volume that ``points`` ``[n, metrics]`` dominate above the origin.

    Metrics lie in [0, 1] and are not scaled: the reference point is 0 in every one, and 1 would
    be all of everything (Zitzler & Thiele 1998; by moocore).
    """
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=np.zeros(points.shape[1]), maximise=True))


class HypervolumeBootstrap:
    """Resamples of the same users, so that fronts can be compared in pairs."""

    def __init__(self, n_users: int, samples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=samples)
        self._shares: Float64 = drawn / n_users

    def means(self, values: Float64) -> Float64:
        """Of every resample ``[samples, points, metrics]``; ``values`` ``[points, users,
        metrics]``."""
        means: Float64 = np.einsum("su,pum->spm", self._shares, values, optimize=True)
        return means

    def _volumes(self, values: Float64) -> Float64:
        """Of every resample ``[samples]``; ``values`` ``[points, users, metrics]``."""
        return np.array([hypervolume(points) for points in self.means(values)])

    def volume(self, values: Float64) -> Interval:
        """Percentile interval of a front's hypervolume.

        Args:
            values: metrics of every user's page, for every point ``[points, users, metrics]``.
        """
        return interval(hypervolume(values.mean(axis=1)), self._volumes(values))

    def difference(self, values: Float64, others: Float64) -> Interval:
        """Interval of the first front's hypervolume less the second's."""
        value = hypervolume(values.mean(axis=1)) - hypervolume(others.mean(axis=1))
        return interval(value, self._volumes(values) - self._volumes(others))


def interval(value: float, resampled: Float64) -> Interval:
    """The percentile interval of a value that was computed of resamples, too ``[samples]``."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
