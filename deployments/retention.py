"""Deletes what was kept long enough, little by little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from recmesh.deployments.following import follow

EVERY_S = 60.0
PAUSE_S = 0.05
"""Between two deletions: others write meanwhile."""
DAY_MS = 86_400_000

Prune = Callable[[int], int]
"""Deletes some of what is older than a moment, milliseconds since 1970; returns how many rows."""


class Retention:
    """Belongs to one event loop."""

    def __init__(
        self, what: str, prune: Prune, keep_days: float, clock: Callable[[], float] = time.time
    ) -> None:
        """``what`` names it in logs."""
        self._what = what
        self._prune = prune
        self._keep_ms = int(keep_days * DAY_MS)
        self._clock = clock
        self._working: asyncio.Future[None] | None = None
        self._closing = False

    async def run(self) -> None:
        """Deletes for ever what is too old; cancel to end, then :meth:`close`."""
        await follow(self._work, self._what, EVERY_S)

    async def _work(self) -> None:
        # A thread cannot be cancelled: whoever ends this must wait for it.
        self._working = asyncio.ensure_future(asyncio.to_thread(self.tick))
        await asyncio.shield(self._working)

    async def close(self) -> None:
        """Waits for a deletion under way."""
        self._closing = True
        if self._working is not None:
            await asyncio.gather(self._working, return_exceptions=True)

    def tick(self) -> None:
        """Deletes all that is too old now. Blocks.

        Raises:
            UnavailableError: the database does not answer.
        """
        before_ms = int(1000 * self._clock()) - self._keep_ms
        while self._prune(before_ms) and not self._closing:
            time.sleep(PAUSE_S)
