"""Lets in as many requests as can be worked on, the important ones first; the rest is turned away.

Whoever is turned away is told at once, or after a wait that is short against their deadline, and
has cost nearly nothing: work is spent on requests that will be answered in time.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from typing import NoReturn

from recmesh.orchestrator.overload.adaptive_limit import AdaptiveLimit
from recmesh.orchestrator.overload.priority import Priority
from recmesh.storage.errors import OverloadedError

MOST_WAITING = 128
"""For a turn, of one process: their patience ends long before so many would have had one."""
RESERVED_SHARE = 0.5
"""Of the limit, beyond it, for critical requests alone: they wait for each other at most."""
PATIENCE_S = 2.0
"""The longest wait for a turn, of who has many seconds."""
PATIENCE_SHARE = {Priority.CRITICAL: 0.5, Priority.NORMAL: 0.25, Priority.BATCH: 0.1}
"""The most of a request's remaining time that it waits."""

Turn = asyncio.Future[None]


class PriorityGate:
    """Belongs to one event loop. A :meth:`leave` follows every :meth:`enter` that returned."""

    def __init__(self, limit: AdaptiveLimit, most_waiting: int = MOST_WAITING) -> None:
        self.limit = limit
        self._most_waiting = most_waiting
        self.working = 0
        """Requests that were let in and have not left."""
        self.shed: Counter[Priority] = Counter()
        """Requests that were turned away, since the start."""
        self._waiting: dict[Priority, deque[Turn]] = {p: deque() for p in Priority}

    async def enter(self, priority: Priority, remaining_s: float) -> None:
        """Returns when the request may be worked on.

        Args:
            priority: one more than may wait takes the place of a less important one.
            remaining_s: until its deadline.

        Raises:
            OverloadedError: its turn did not come.
        """
        if self._has_room(priority) and not self._waits(priority):
            self._let_in()
            return
        if sum(map(len, self._waiting.values())) >= self._most_waiting:
            self._make_room(priority)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        try:
            async with asyncio.timeout(min(PATIENCE_S, PATIENCE_SHARE[priority] * remaining_s)):
                await turn
        except (TimeoutError, OverloadedError):
            # Its turn may have come at the very moment at which its patience ended.
            if not _came(turn):
                self._forget(priority, turn)
                self._refuse(priority)
        except asyncio.CancelledError:
            if _came(turn):
                self.leave()
            self._forget(priority, turn)
            raise

    def leave(self, share: float | None = None) -> None:
        """A request that was let in is done; the work on it took a ``share`` of its time.

        None: it was given up, which says nothing of how long it would have taken.
        """
        if share is not None:
            self.limit.answered(share)
        self.working -= 1
        for priority, waiting in self._waiting.items():
            while waiting and self._has_room(priority):
                turn = waiting.popleft()
                if not turn.done():
                    self._let_in()
                    turn.set_result(None)

    def _let_in(self) -> None:
        self.working += 1
        self.limit.working(self.working)

    def _has_room(self, priority: Priority) -> bool:
        """Whether one more of these may be worked on: critical ones find room where others wait."""
        beyond = RESERVED_SHARE * self.limit.at_once if priority is Priority.CRITICAL else 0.0
        return self.working < self.limit.at_once + math.ceil(beyond)

    def _waits(self, priority: Priority) -> bool:
        """Whether anybody does who is as important."""
        return any(self._waiting[other] for other in Priority if other <= priority)

    def _make_room(self, priority: Priority) -> None:
        for less in reversed(Priority):
            if less <= priority:
                self._refuse(priority)
            # The one who waited least has lost least.
            if self._waiting[less]:
                turn = self._waiting[less].pop()
                if not turn.done():
                    turn.set_exception(OverloadedError("a more important request took its place"))
                return

    def _forget(self, priority: Priority, turn: Turn) -> None:
        if turn in self._waiting[priority]:
            self._waiting[priority].remove(turn)

    def _refuse(self, priority: Priority) -> NoReturn:
        self.shed[priority] += 1
        raise OverloadedError(
            f"as many requests as can be answered in time are at work ({self.working}); "
            f"try again later"
        ) from None


def _came(turn: Turn) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None
