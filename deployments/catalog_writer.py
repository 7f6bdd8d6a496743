"""The one writer of the catalog: database, methods, and the index that follows."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import structlog

from recmesh.deployments.catalog_methods import CatalogMethods
from recmesh.deployments.item_indexer import ItemIndexer
from recmesh.models.nlp.item_vectors import ItemVectors
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.catalog_log import CatalogLog, Write
from recmesh.storage.database import Database
from recmesh.storage.errors import NotFoundError, UnavailableError
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.vector_index import EmbeddingVersion, live_embedding_version

log = structlog.get_logger(__name__)


def _known_vectors(store: ArtifactStore, record: EmbeddingVersion, name: str) -> ItemVectors:
    """What the language model has of items in the record's embedding space."""
    try:
        artifact = store.load(name)
    except NotFoundError:
        # It runs elsewhere.
        artifact = None
    if artifact is not None and artifact.card.parameters["embedding_version"] == record.version:
        ids, vectors = artifact.strings["item_ids"], artifact.tensors["item_vectors"]
    else:
        ids, vectors = [], np.empty((0, record.dim), np.float32)
    return ItemVectors(ids, vectors.astype(np.float32), store.appended(name), record.version)


class CatalogWriter:
    """Takes writes once started. Belongs to the event loop that starts it."""

    methods: CatalogMethods

    def __init__(
        self, home: Home, database_uri: str, embedder: ModelClient | None, index_uri: str
    ) -> None:
        """``index_uri`` empty, or no embedder: nothing is indexed."""
        self._home = home
        self._database_uri = database_uri
        self._embedder = embedder
        self._index_uri = index_uri
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
        try:
            await asyncio.to_thread(self.methods.complete_erasures)
        except UnavailableError as error:
            log.warning("erasures_not_completed", reason=str(error))
        if self._embedder is not None and self._index_uri:
            try:
                record = live_embedding_version(self._home.vectors)
            except NotFoundError as error:
                log.warning("nothing indexed", reason=str(error))
            else:
                await self._index(catalog, commits, self._embedder, record)

    async def _index(
        self,
        catalog: CatalogLog,
        commits: GroupCommit[Write],
        embedder: ModelClient,
        record: EmbeddingVersion,
    ) -> None:
        index = MilvusIndex(self._index_uri)
        self._closing.push_async_callback(index.close)
        self.methods.indexed_ids = lambda: index.content_hashes(record.collection)
        store = ArtifactStore(self._home.artifacts)
        appended = store.appended(embedder.name)
        vectors = await asyncio.to_thread(_known_vectors, store, record, embedder.name)
        indexer = ItemIndexer(
            catalog, commits, index, embedder, record, self._home.dataset, vectors, appended
        )
        following = asyncio.create_task(indexer.run(), name="index-items")

        async def end() -> None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

        self._closing.push_async_callback(end)

    async def close(self) -> None:
        """Ends indexing, writes what waits, and lets go of the database."""
        await self._closing.aclose()
