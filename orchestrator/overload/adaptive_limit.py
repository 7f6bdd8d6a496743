"""How many requests one process works on at once, learned from how long its turns take.

Not from how long requests take: those also take long when a model hangs, and then work is not what
there is too much of. What tells is how late the process' event loop is: a loop that comes to
everything in time has room, whatever its requests wait for.

Additive increase and multiplicative decrease (Chiu, Jain: *Analysis of the increase and decrease
algorithms for congestion avoidance*, 1989), steered by delay rather than by losses, as in Nichols,
Jacobson: *Controlling queue delay*, 2012, and Zhou et al.: *Overload control for scaling WeChat
microservices*, 2018.
"""

from __future__ import annotations

import statistics

TARGET_LAG_S = 0.02
"""How late a turn of the event loop may be, by the median of a window."""
FEWEST, MOST, FIRST = 4, 512, 64
DECREASE = 0.8
INCREASE = 2


class AdaptiveLimit:
    """A number of requests. Belongs to one event loop."""

    def __init__(self) -> None:
        self.at_once = FIRST
        """Requests that may be worked on."""
        self._lags_s: list[float] = []
        self._most_seen = 0

    def working(self, requests: int) -> None:
        """So many are worked on now."""
        if requests > self._most_seen:
            self._most_seen = requests

    def late(self, lag_s: float) -> None:
        """A turn of the event loop came so late."""
        self._lags_s.append(lag_s)

    def adjust(self) -> None:
        """Ends a window of observation."""
        if not self._lags_s:
            return
        lag_s = statistics.median(self._lags_s)
        if lag_s > TARGET_LAG_S:
            # From what there was, not from a limit that nobody came near.
            busy = min(self.at_once, max(self._most_seen, FEWEST))
            self.at_once = max(FEWEST, int(busy * DECREASE))
        elif self._most_seen >= self.at_once:
            self.at_once = min(MOST, self.at_once + INCREASE)
        self._lags_s.clear()
        self._most_seen = 0
