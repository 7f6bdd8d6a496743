"""Keeps an orchestrator's histories as events are recorded."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.orchestrator.live_histories import LiveHistories
from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

POLL_S = 0.25
READ_TIMEOUT_S = 2.0


class EventFollower:
    """Asks for events from the log's beginning on. Belongs to one event loop.

    The log is the state: an orchestrator that starts anew has read what its predecessor knew
    before it serves.
    """

    def __init__(self, client: CatalogLogClient, histories: LiveHistories) -> None:
        self._client = client
        self._histories = histories
        self._seq = 0

    async def catch_up(self, patience_s: float) -> None:
        """Waits until all that was recorded is known, or for ``patience_s`` seconds."""
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    with contextlib.suppress(RecMeshError):
                        await self._take_all()
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            log.warning("events_unknown", waited_s=patience_s)

    async def run(self) -> None:
        """Follows for ever; cancel to end. While nobody answers, what is known serves."""
        silent = False
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._take_all()
            except RecMeshError as error:
                if not silent:
                    log.warning("events_silent", reason=str(error))
                silent = True
            except Exception:
                # The loop outlives whatever one event may bring about.
                log.exception("following_events_failed")
            else:
                silent = False

    async def _take_all(self) -> None:
        while True:
            batch = await self._client.read_events(self._seq, timeout_s=READ_TIMEOUT_S)
            self._histories.take(batch.events)
            self._seq = batch.through_seq
            if batch.through_seq >= batch.head_seq:
                return
