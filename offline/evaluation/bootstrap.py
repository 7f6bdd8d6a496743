"""Bootstrap intervals over users (Efron & Tibshirani 1993)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.models.model import Int64

Float64 = npt.NDArray[np.float64]

LEVEL = 0.95
Z_95 = 1.959964


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

    def coverage(self, best: Int64, n_items: int) -> Interval:
        """Normal interval of the share of items on some page of ``best`` ``[users, k]``.

        A resample holds fewer distinct users and so fewer distinct items: its spread is of
        use, its level is not.
        """
        users, places = np.nonzero(best >= 0)
        shown = sparse.csr_matrix(
            (np.ones(len(users), np.float32), (users, best[users, places])),
            shape=(len(best), n_items),
        )
        value = float((np.diff(shown.tocsc().indptr) > 0).mean())
        shares = [
            float(((sparse.csr_matrix(counts[None, :]) @ shown).getnnz()) / n_items)
            for counts in self._counts
        ]
        margin = Z_95 * float(np.std(shares))
        return Interval(value, max(value - margin, 0.0), min(value + margin, 1.0))
