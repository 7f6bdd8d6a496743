"""Weighted draws within groups, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class GroupSampler:
    """Draws rows of a group in proportion to their weight, optionally only early rows.

    Args:
        group: int64 ``[n]``, the group of every row, from 0.
        weight: float64 ``[n]``, positive.
        time: float64 ``[n]``; a draw at time t sees rows of ``time`` ≤ t.
    """

    def __init__(self, group: Ints, weight: Floats, time: Floats) -> None:
        self._order = np.lexsort((time, group))
        self._times = np.sort(time)
        ranks = np.searchsorted(self._times, time[self._order], side="right")
        self._stride = len(time) + 1
        self._keys = group[self._order] * self._stride + ranks
        self._sums = np.concatenate([[0.0], np.cumsum(weight[self._order])])

    def draw(self, group: Ints, time: Floats, rng: np.random.Generator) -> Ints:
        """Rows, int64 of ``group``'s shape; -1 where the group has none yet."""
        first = np.searchsorted(self._keys, group * self._stride)
        seen = np.searchsorted(self._times, time, side="right")
        last = np.searchsorted(self._keys, group * self._stride + seen, side="right")
        low, high = self._sums[first], self._sums[last]
        point = low + rng.random(group.shape) * (high - low)
        at = np.clip(np.searchsorted(self._sums, point, side="right") - 1, first, last - 1)
        return np.where(last > first, self._order[np.maximum(at, 0)], -1)
