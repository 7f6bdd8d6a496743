"""How many requests one process works on at once, learned from what that does to the work on each.

The limit is lowered where it binds, the work on each request takes much longer than it would alone,
and the process lacks CPU: then more at once are only done later. All three must be so. Work that is
slow while the process has CPU to spare waits for somebody else, a slow model say, and fewer at once
would only be fewer. Where the limit does not bind nobody waits for a turn: what is slow then is so
because others use the cores, a replica that starts beside it say, and a lower limit would refuse
what can be answered. Such a limit, low or high, goes back to what it was in the beginning.

What work on a request takes, from its turn to its answer, is told as a share of the time that it
was given. A window's median is held against the least that there was, a tenth at most: what waits
for its turn has a quarter of its time again, and the slowest need their double. The least grows
slowly, so that work that got dearer for good is no overload for ever.

Additive increase and multiplicative decrease (Chiu, Jain: *Analysis of the increase and decrease
algorithms for congestion avoidance*, 1989), steered by delay rather than by losses, as in Brakmo,
Peterson: *TCP Vegas*, 1995 (against the least delay seen), Nichols, Jacobson: *Controlling queue
delay*, 2012, and Zhou et al.: *Overload control for scaling WeChat microservices*, 2018.
"""

from __future__ import annotations

import statistics

MOST_TIMES = 2.5
"""What work may take, by the median of a window, as a multiple of the least."""
MOST_LEAST = 0.1
"""Of a request's time: what takes more, however quick it can be, waits somewhere."""
LEAST_GROWS = 1.001
"""The least, each window."""
BUSY_LAG_S = 0.001
"""By how much the event loop of a process that lacks CPU is late."""
FEWEST, MOST, FIRST = 2, 512, 8
DECREASE = 0.8
INCREASE = 1
LEAST_WINDOW = 16
"""Answers."""


class AdaptiveLimit:
    """A number of requests. Belongs to one event loop."""

    def __init__(self) -> None:
        self.at_once = FIRST
        """Requests that may be worked on."""
        self._shares: list[float] = []
        self._most_seen = 0
        self._least = 1.0
        self._lag_s = 0.0

    def lagging(self, by_s: float) -> None:
        """The event loop is late by so much now."""
        self._lag_s = by_s

    def working(self, requests: int) -> None:
        """So many are worked on now."""
        if requests > self._most_seen:
            self._most_seen = requests

    def answered(self, share: float) -> None:
        """Work on a request took such a share of its time."""
        self._shares.append(share)
        # A round: those who were there when the limit changed are through.
        if len(self._shares) < max(LEAST_WINDOW, self.at_once):
            return
        median = statistics.median(self._shares)
        self._least = min(median, LEAST_GROWS * self._least)
        slow = median > MOST_TIMES * min(self._least, MOST_LEAST)
        if self._most_seen < self.at_once < FIRST:
            self.at_once += INCREASE
        elif self._most_seen < self.at_once:
            self.at_once = max(FIRST, int(self.at_once * DECREASE))
        elif slow and self._lag_s > BUSY_LAG_S:
            self.at_once = max(FEWEST, int(self.at_once * DECREASE))
        else:
            self.at_once = min(self.at_once + INCREASE, MOST)
        self._shares.clear()
        self._most_seen = 0
