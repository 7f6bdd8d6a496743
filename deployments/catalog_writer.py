"""The one writer of catalog and events: database, methods, and the index that follows."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from recmesh.deployments.catalog_methods import CatalogMethods
from recmesh.deployments.event_check import EventCheck
from recmesh.deployments.feedback_methods import FeedbackMethods
from recmesh.deployments.item_indexers import ItemIndexers
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.catalog_log import CatalogLog, Write
from recmesh.storage.database import Database
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.known_ids import KnownIds
from recmesh.storage.milvus_index import MilvusIndex

log = structlog.get_logger(__name__)


class CatalogWriter:
    """Takes writes once started. Belongs to the event loop that starts it."""

    methods: CatalogMethods
    feedback: FeedbackMethods

    def __init__(
        self,
        home: Home,
        database_uri: str,
        embedder: ModelClient | None,
        index_uri: str,
        tokens: AttributionTokens,
    ) -> None:
        """``index_uri`` empty, or no embedder: nothing is indexed. ``tokens`` verify events."""
        self._home = home
        self._database_uri = database_uri
        self._embedder = embedder
        self._index_uri = index_uri
        self._tokens = tokens
        self._closing = contextlib.AsyncExitStack()

    async def start(self, wait_s: float = 0.0) -> None:
        """Opens the database and begins to index what was written meanwhile.

        Another process that writes it may take ``wait_s`` seconds to leave.

        Raises:
            ConfigurationError: another process writes the database.
            UnavailableError: the database does not answer.
        """
        database = await asyncio.to_thread(
            Database.for_writing,
            self._database_uri,
            self._home.database,
            wait_s=wait_s,
        )
        self._closing.callback(database.close)
        catalog = CatalogLog(database)
        commits: GroupCommit[Write] = GroupCommit(catalog.write)
        self._closing.push_async_callback(asyncio.to_thread, commits.close)
        self.methods = CatalogMethods(self._home, catalog, commits)
        known = KnownIds(database, self.methods.ingested)
        check = EventCheck(self._tokens, known.among_items_and_users)
        self.feedback = FeedbackMethods(EventLog(database), check)
        self._closing.push_async_callback(asyncio.to_thread, self.feedback.close)
        try:
            await asyncio.to_thread(self.methods.complete_erasures)
        except UnavailableError as error:
            log.warning("erasures_not_completed", reason=str(error))
        if self._embedder is not None and self._index_uri:
            index = MilvusIndex(self._index_uri)
            self._closing.push_async_callback(index.close)
            indexers = ItemIndexers(self._home, catalog, commits, index, self._embedder)
            self.methods.indexed_ids = indexers.held_ids
            following = asyncio.create_task(indexers.run(), name="index-items")

            async def end() -> None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

            self._closing.push_async_callback(end)

    async def close(self) -> None:
        """Ends indexing, writes what waits, and lets go of the database."""
        await self._closing.aclose()
