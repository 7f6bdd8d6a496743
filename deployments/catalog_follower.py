"""Keeps an orchestrator's snapshot as the catalog is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.deployments.following import catch_up, follow
from recmesh.orchestrator.live_snapshot import LiveSnapshot
from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import ErasedUsers

POLL_S = 0.4
READ_TIMEOUT_S = 2.0
RELOAD_EVERY_S = 2.0


class CatalogFollower:
    """Asks for changes, makes the next snapshot in a thread, and swaps it in at once.

    Belongs to one event loop. Requests under way keep the snapshot that they took.
    """

    def __init__(
        self, client: CatalogLogClient, mesh: Mesh, live: LiveSnapshot, dataset: Path
    ) -> None:
        """``live`` made the mesh's snapshot from the data set in the folder ``dataset``."""
        self._client = client
        self._mesh = mesh
        self._live = live
        self._dataset = dataset
        self._seq = 0
        self._erased = ErasedUsers()
        self._reload_due = False

    async def catch_up(self, patience_s: float) -> None:
        """Waits until all that was written is known, or for ``patience_s`` seconds.

        Given up, pages say that they lack it until :meth:`run` has made it good.
        """
        await catch_up(self._take_all, "catalog", POLL_S, patience_s)

    async def run(self) -> None:
        """Follows for ever; cancel to end. While nobody answers, the last snapshot serves."""
        await follow(self._take_and_reload, "catalog", POLL_S)

    async def _take_and_reload(self) -> None:
        await self._take_all()
        if self._reload_due:
            await self._reload()

    async def _take_all(self) -> None:
        self._seq = await self._follow(self._live, self._seq)
        self._show()

    def _show(self) -> None:
        # Which embedding version is searched is not the catalog's to say.
        now = self._mesh.snapshot
        self._mesh.snapshot = replace(
            self._live.current, embedding=now.embedding, policy=now.policy
        )

    async def _follow(self, live: LiveSnapshot, seq: int) -> int:
        while True:
            changes = await self._client.read_changes(seq, timeout_s=READ_TIMEOUT_S)
            if changes.through_seq > seq or live.current.catalog_seq is None:
                await asyncio.to_thread(live.apply, changes)
            if changes.erased.hashes:
                hashes = self._erased.hashes | changes.erased.hashes
                self._reload_due = self._reload_due or hashes != self._erased.hashes
                self._erased = ErasedUsers(changes.erased.salt, hashes)
            seq = changes.through_seq
            if seq >= changes.head_seq:
                return seq

    async def _reload(self) -> None:
        """Forgets the data set as it was before users were erased from its files.

        They are hidden already; this takes them out of memory.
        """
        dataset = Dataset.open(self._dataset)
        snapshot = self._mesh.snapshot
        live = await asyncio.to_thread(LiveSnapshot, dataset, snapshot.policy, snapshot.embedding)
        seq = await self._follow(live, 0)
        ids = await asyncio.to_thread(self._erased.among, live.ingested_user_ids)
        self._live, self._seq = live, seq
        self._show()
        if ids:
            # The files are still being rewritten.
            await asyncio.sleep(RELOAD_EVERY_S)
        else:
            self._reload_due = False
