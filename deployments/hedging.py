"""When a second attempt of a call is worth its cost (Dean, Barroso: *The Tail at Scale*, 2013)."""

from __future__ import annotations

SHARE = 0.02
"""Of calls that may have a second attempt."""
MOST_SAVED = 10.0
"""Second attempts that quiet times can save up for a bad moment."""
QUANTILE = 0.95
WINDOW = 256
LEAST_KNOWN = 64
"""Calls before it is known what is usual."""
RENEWED_AFTER = 32


class Latency:
    """The 95th percentile of the last 256 answers of one method of one model."""

    def __init__(self) -> None:
        self._took_s: list[float] = []
        self._next = 0
        self.p95_s: float | None = None
        """Renewed every 32 answers; None while too little is known."""

    def add(self, took_s: float) -> None:
        """An answer took so long."""
        if len(self._took_s) < WINDOW:
            self._took_s.append(took_s)
        else:
            self._took_s[self._next % WINDOW] = took_s
        self._next += 1
        if self._next % RENEWED_AFTER == 0 and len(self._took_s) >= LEAST_KNOWN:
            self.p95_s = sorted(self._took_s)[int(QUANTILE * len(self._took_s))]


class HedgeBudget:
    """Second attempts as a share of calls, so that a slow model is not asked twice as often."""

    def __init__(self) -> None:
        self._tokens = 0.0

    def earn(self) -> None:
        """A call was made."""
        self._tokens = min(self._tokens + SHARE, MOST_SAVED)

    def spend(self) -> bool:
        """Whether one more second attempt may be made; it is then counted."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
