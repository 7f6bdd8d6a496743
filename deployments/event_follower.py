"""Keeps what an orchestrator knows of users as events are recorded."""

from __future__ import annotations

import asyncio
import time

from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.deployments.following import catch_up, follow
from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.errors import RecMeshError

POLL_S = 0.25
READ_TIMEOUT_S = 2.0


class EventFollower:
    """Asks for events from the log's beginning on. Belongs to one event loop.

    The log is the state: an orchestrator that starts anew has read what its predecessor knew
    before it serves.
    """

    def __init__(self, client: CatalogLogClient, mesh: Mesh) -> None:
        self._client = client
        self._mesh = mesh
        self._seq = 0
        self._taking = asyncio.Lock()

    async def catch_up(self, patience_s: float) -> None:
        """Waits until all that was recorded is known, or for ``patience_s`` seconds."""
        await catch_up(self._take_all, "events", POLL_S, patience_s)

    async def run(self) -> None:
        """Follows for ever; cancel to end. While nobody answers, what is known serves."""
        await follow(self._take_all, "events", POLL_S)

    async def _take_all(self) -> None:
        async with self._taking:
            await self._take_on()

    async def take_now(self, timeout_s: float) -> bool:
        """Takes everything there is to take now; returns whether somebody answered in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._take_all()
        except (RecMeshError, TimeoutError):
            return False
        return True

    async def _take_on(self) -> None:
        while True:
            batch = await self._client.read_events(self._seq, timeout_s=READ_TIMEOUT_S)
            self._mesh.histories.take(batch.events)
            self._mesh.impressions.take(batch.events, time.time())
            self._seq = batch.through_seq
            if batch.through_seq >= batch.head_seq:
                return
