"""Bootstrap intervals over users (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Float64 = npt.NDArray[np.float64]

LEVEL = 0.95
Z_95 = 1.959964
AT_ONCE = 100  # samples


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float


class UserBootstrap:
    """Resamples of the same users, so that systems can be compared in pairs.

    Equal users, samples and seed give equal resamples.
    """

    def __init__(self, n_users: int, samples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=samples)
        self._counts: npt.NDArray[np.float32] = drawn.astype(np.float32)

    def mean(self, values: Float64) -> Interval:
        """Percentile interval of the mean of ``values`` ``[users]``; NaN takes no part."""
        known = np.isfinite(values)
        if not known.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        counts = self._counts[:, known].astype(np.float64)
        sizes = counts.sum(axis=1)
        means = (counts @ values[known])[sizes > 0] / sizes[sizes > 0]
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(values[known].mean()), float(low), float(high))

    def difference(self, values: Float64, others: Float64) -> Interval:
        """Interval of the mean difference of two systems on the same users ``[users]``."""
        return self.mean(values - others)

    def pooled(
        self,
        columns: sparse.csr_matrix,
        statistic: Callable[[Float64], Float64],
        least: float,
        most: float,
    ) -> Interval:
        """Normal interval of a statistic of sums over users.

        A resample holds fewer distinct users, and so fewer distinct items on pages: its spread is
        of use, its level is not.

        Args:
            columns: what is summed ``[users, columns]``.
            statistic: of sums ``[..., columns]``: ``[...]``; NaN where it is undefined.
            least: its lowest possible value.
            most: its highest possible value.
        """
        value = float(statistic(np.asarray(columns.sum(axis=0), np.float64).ravel()))
        if not np.isfinite(value):
            return Interval(float("nan"), float("nan"), float("nan"))
        transposed = sparse.csr_matrix(columns.T)
        found = np.concatenate(
            [
                statistic(np.asarray((transposed @ counts.T).T, np.float64))
                for counts in np.array_split(self._counts, max(len(self._counts) // AT_ONCE, 1))
            ]
        )
        margin = Z_95 * float(np.nanstd(found))
        return Interval(value, max(value - margin, least), min(value + margin, most))
