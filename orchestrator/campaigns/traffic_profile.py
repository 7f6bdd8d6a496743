"""How traffic spreads over the week: what a campaign can expect until it ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

HOUR_S = 3_600
HOURS = 7 * 24
SMOOTHING = 1.0
"""Events added to every hour of the week: no hour is expected to be empty."""


@dataclass(frozen=True, slots=True)
class TrafficProfile:
    """Share of the week's traffic in every hour of it, UTC; sums to 1 ``[168]``."""

    share: Float64

    @classmethod
    def of(cls, times_unix_s: Int64) -> TrafficProfile:
        """From the moments of past requests or impressions ``[n]``; none: even."""
        hours = (times_unix_s // HOUR_S) % HOURS
        counts = np.bincount(hours, minlength=HOURS) + SMOOTHING
        return cls(counts / counts.sum())

    def between(self, start_unix_s: npt.ArrayLike, end_unix_s: npt.ArrayLike) -> Float64:
        """Traffic from moments to others, in weeks' worth ``[n]``; 0 when the end is not later."""
        start, end = np.asarray(start_unix_s, np.float64), np.asarray(end_unix_s, np.float64)
        return np.where(end > start, self._until(end) - self._until(start), 0.0)

    def _until(self, unix_s: Float64) -> Float64:
        weeks, within = np.divmod(unix_s / HOUR_S, HOURS)
        whole = within.astype(np.int64)
        before = np.concatenate([[0.0], np.cumsum(self.share)])
        return np.asarray(weeks + before[whole] + (within - whole) * self.share[whole], np.float64)
