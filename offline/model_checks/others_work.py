"""How much of this machine other programs took while something was timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psutil

TOO_MUCH = 0.5
"""Share of the processors' time from which on times say nothing of a model."""


class OthersWork:
    """Counts from when it is made."""

    def __init__(self, ours: Sequence[psutil.Process]) -> None:
        """``ours`` are the processes whose work is timed, beside this one."""
        self._ours = [psutil.Process(), *ours]
        self._began = self._now()

    def _now(self) -> tuple[float, float, float]:
        """Seconds of all processors, of those the busy ones, and of those ours."""
        times = psutil.cpu_times()
        total = sum(times)
        ours = 0.0
        for process in self._ours:
            with suppress(psutil.Error):
                ours += sum(process.cpu_times()[:2])
        return total, total - times.idle - getattr(times, "iowait", 0.0), ours

    def share(self) -> float:
        """Of the processors' time, in [0, 1]."""
        total, busy, ours = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return min(max((busy - ours) / total, 0.0), 1.0) if total > 0 else 0.0
