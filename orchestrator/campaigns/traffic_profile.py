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

    def between(self, start_unix_s: float, end_unix_s: float) -> float:
        """Traffic from one moment to another, in weeks' worth; 0 when the end is not later."""
        if end_unix_s <= start_unix_s:
            return 0.0
        return self._until(end_unix_s) - self._until(start_unix_s)

    def _until(self, unix_s: float) -> float:
        hours = unix_s / HOUR_S
        weeks, within = divmod(hours, HOURS)
        whole = int(within)
        return weeks + float(self.share[:whole].sum()) + (within - whole) * float(self.share[whole])
