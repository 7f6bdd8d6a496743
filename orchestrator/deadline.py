"""One time budget for a whole request."""

from __future__ import annotations

import time
from dataclasses import dataclass

from recmesh.storage.errors import DeadlineError

LEAST_RESERVE_S, RESERVE_SHARE = 0.005, 0.1
"""Kept back, after sources were waited for, to bring the page to its caller."""
MOST_RESERVE_SHARE = 0.5
"""Sources have the rest, however long choosing a page takes: without any there is none."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock by which the answer must be on its way."""

    at_s: float

    @classmethod
    def after(cls, budget_s: float, own_work_s: float = 0.0) -> Deadline:
        """Starts the budget now.

        Args:
            budget_s: for everything.
            own_work_s: of it, to choose the page after sources were waited for.

        Raises:
            DeadlineError: the budget is too small to answer anything.
        """
        if budget_s <= LEAST_RESERVE_S:
            raise DeadlineError(
                f"deadline leaves {max(budget_s, 0) * 1000:.1f} ms; at least "
                f"{LEAST_RESERVE_S * 1000:.0f} ms are needed"
            )
        wanted_s = RESERVE_SHARE * budget_s + own_work_s
        reserve_s = max(LEAST_RESERVE_S, min(wanted_s, MOST_RESERVE_SHARE * budget_s))
        return cls(time.monotonic() + budget_s - reserve_s)

    def remaining_s(self) -> float:
        """Seconds left; negative when over."""
        return self.at_s - time.monotonic()
