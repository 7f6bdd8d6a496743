"""How many requests one process works on at once, learned from what that does to the work on each.

Too many are worked on at once where each takes much longer than it would alone and the process
lacks CPU: then each is done later without more of them being done. Both must be so. Work that is
slow while the process has CPU to spare waits for somebody else, a slow model say, and fewer at once
would only be fewer. Work that is quick has room, however busy the process is.

What work on a request takes, from its turn to its answer, is told as a share of the time that it
was given. A window's median is held against the least that there was, a tenth at most: what waits
for its turn has a quarter of its time again, and the slowest need their double. The least grows
slowly, so that work that got dearer for good is no overload for ever.

The part of the median that is beyond the least is spent in queues, and by Little's law that part of
those at work stands in them. A few there keep the cores busy. Where only a few are at work, they
are slow because others use the cores, a replica that starts beside them say, and turning requests
away would make none of them quicker.

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
MOST_QUEUED = 4.0
"""Requests at work that may stand in a queue, however long they take."""
LEAST_GROWS = 1.001
"""The least, each window."""
BUSY_LAG_S = 0.001
"""By how much the event loop of a process that lacks CPU is late."""
FEWEST, MOST, FIRST = 4, 512, 16
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
        least = min(self._least, MOST_LEAST)
        queued = self._most_seen * (1.0 - least / median) if median > MOST_TIMES * least else 0.0
        if queued > MOST_QUEUED and self._lag_s > BUSY_LAG_S:
            # From what there was, not from a limit that nobody came near.
            busy = min(self.at_once, self._most_seen)
            self.at_once = max(FEWEST, int(busy * DECREASE))
        elif self._most_seen >= self.at_once:
            self.at_once = min(MOST, self.at_once + INCREASE)
        self._shares.clear()
        self._most_seen = 0
