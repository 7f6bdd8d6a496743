"""How long pages take once their sources have been heard: what a deadline must leave for that."""

from __future__ import annotations

from collections import deque

RECENT = 64
"""Pages that are looked back upon."""
SHARE = 0.95
"""Of them, that what is left is enough for."""


class OwnWork:
    """Learned from the pages before: on busy cores the same work takes several times as long."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.enough_s = 0.0
        """For 95 of 100 recent pages; 0 before the first."""

    def took(self, seconds: float) -> None:
        """To choose and write one page, waits for others left out."""
        self._recent.append(seconds)
        self.enough_s = sorted(self._recent)[int(SHARE * (len(self._recent) - 1))]
