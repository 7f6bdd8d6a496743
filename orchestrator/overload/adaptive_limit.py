"""How many requests one process works on at once, learned from how much of their time they take.

A process cannot tell what it has too little of: its own CPU, that of the models on the same
machine, or a model's. What it can tell is how much of a request's time the work on it took, from
its turn to its answer. While half of the requests take less than a quarter of theirs, there is
room; where they take more, too many are worked on at once, and each is done later without more of
them being done. What waits for its turn has that quarter again, and the slowest their double. A
model that hangs does not look like this for long: its circuit breaker opens.

Additive increase and multiplicative decrease (Chiu, Jain: *Analysis of the increase and decrease
algorithms for congestion avoidance*, 1989), steered by delay rather than by losses, as in Nichols,
Jacobson: *Controlling queue delay*, 2012, and Zhou et al.: *Overload control for scaling WeChat
microservices*, 2018.
"""

from __future__ import annotations

import statistics

TARGET_SHARE = 0.25
"""Of a request's time that the work on it may take, by the median of a window."""
FEWEST, MOST, FIRST = 6, 512, 16
DECREASE = 0.8
INCREASE = 1
LEAST_WINDOW = 8
"""Answers."""


class AdaptiveLimit:
    """A number of requests. Belongs to one event loop."""

    def __init__(self) -> None:
        self.at_once = FIRST
        """Requests that may be worked on."""
        self._shares: list[float] = []
        self._most_seen = 0

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
        if statistics.median(self._shares) > TARGET_SHARE:
            # From what there was, not from a limit that nobody came near.
            busy = min(self.at_once, max(self._most_seen, FEWEST))
            self.at_once = max(FEWEST, int(busy * DECREASE))
        elif self._most_seen >= self.at_once:
            self.at_once = min(MOST, self.at_once + INCREASE)
        self._shares.clear()
        self._most_seen = 0
