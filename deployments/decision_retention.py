"""Deletes decision records that were kept long enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from recmesh.deployments.following import follow
from recmesh.storage.decision_log import DecisionLog

EVERY_S = 60.0
PAUSE_S = 0.05
"""Between two deletions: others write meanwhile."""
DAY_MS = 86_400_000


class DecisionRetention:
    """Belongs to one event loop."""

    def __init__(
        self, decisions: DecisionLog, keep_days: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._decisions = decisions
        self._keep_ms = int(keep_days * DAY_MS)
        self._clock = clock
        self._working: asyncio.Future[None] | None = None
        self._closing = False

    async def run(self) -> None:
        """Deletes for ever what is too old; cancel to end, then :meth:`close`."""
        await follow(self._work, "decisions", EVERY_S)

    async def _work(self) -> None:
        # A thread cannot be cancelled: whoever ends this must wait for it.
        self._working = asyncio.ensure_future(asyncio.to_thread(self.prune))
        await asyncio.shield(self._working)

    async def close(self) -> None:
        """Waits for a deletion under way."""
        self._closing = True
        if self._working is not None:
            await asyncio.gather(self._working, return_exceptions=True)

    def prune(self) -> None:
        """Deletes all that is too old now. Blocks.

        Raises:
            UnavailableError: the database does not answer.
        """
        before_ms = int(1000 * self._clock()) - self._keep_ms
        while self._decisions.prune(before_ms) and not self._closing:
            time.sleep(PAUSE_S)
