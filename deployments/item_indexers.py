"""Keeps the collection of every embedding version that is served as the catalog is.

So one that is being verified is current when it goes live, and the one before still is when it
comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import numpy as np
import structlog

from recmesh.deployments.item_indexer import ItemIndexer
from recmesh.models.nlp.item_vectors import ItemVectors
from recmesh.models.nlp.query_log import asked
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.catalog_log import CatalogLog, Write
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import NotFoundError, RecMeshError
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.vector_index import VectorIndex

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0


def _known(
    store: ArtifactStore, record: EmbeddingVersion, name: str
) -> tuple[ItemVectors, dict[str, list[str]]]:
    """What the language model has of items in the record's embedding space, and the queries
    that led to them."""
    try:
        artifact = store.load(name, record.artifact)
        ids, vectors = artifact.strings["item_ids"], artifact.tensors["item_vectors"]
        queries = asked(artifact)
    except NotFoundError:
        # It runs elsewhere.
        ids, vectors, queries = [], np.empty((0, record.dim), np.float32), {}
    known = ItemVectors(ids, vectors.astype(np.float32), store.appended(name), record.version)
    return known, queries


@dataclass(slots=True)
class ItemIndexers:
    """An :class:`ItemIndexer` for each version served. Belongs to one event loop."""

    home: Home
    catalog: CatalogLog
    commits: GroupCommit[Write]
    index: VectorIndex
    embedder: ModelClient
    _running: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict, init=False)
    """By collection, and the moment it was built."""

    async def run(self) -> None:
        """Follows the registry for ever; cancel to end."""
        said = ""
        try:
            while True:
                try:
                    await self._look()
                except RecMeshError as error:
                    if said != str(error):
                        said = str(error)
                        log.warning("embedding_versions_unknown", reason=said)
                except Exception:
                    # The loop outlives whatever one record may bring about.
                    log.exception("following_the_registry_failed")
                else:
                    said = ""
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._end(list(self._running))

    async def held_ids(self) -> set[str]:
        """The ids in the collections of all embedding versions.

        Raises:
            RecMeshError: registry or index does not answer.
        """
        held: set[str] = set()
        for record in await asyncio.to_thread(EmbeddingRegistry(self.home.vectors).records):
            with contextlib.suppress(NotFoundError):
                held.update(await self.index.content_hashes(record.collection))
        return held

    async def _look(self) -> None:
        served = await asyncio.to_thread(EmbeddingRegistry(self.home.vectors).served)
        wanted = {(record.collection, record.times.get("built", "")): record for record in served}
        await self._end([key for key in self._running if key not in wanted])
        for key, record in wanted.items():
            if key not in self._running:
                store = ArtifactStore(self.home.artifacts)
                vectors, queries = await asyncio.to_thread(
                    _known, store, record, self.embedder.name
                )
                indexer = ItemIndexer(
                    self.catalog,
                    self.commits,
                    self.index,
                    self.embedder,
                    record,
                    self.home.dataset,
                    vectors,
                    queries,
                    store.appended(self.embedder.name),
                )
                self._running[key] = asyncio.create_task(indexer.run(), name=f"index-{key[0]}")

    async def _end(self, keys: list[tuple[str, str]]) -> None:
        ending = [self._running.pop(key) for key in keys]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
