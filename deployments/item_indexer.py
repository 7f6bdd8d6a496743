"""Keeps a vector collection as the catalog is: changed items in, deleted items out.

At least once: its position in the log is committed after the index has taken the changes, and
taking them twice changes nothing, because rows are replaced by id. So what was written while
the index or the language model was down, or this process, is taken later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from recmesh.models.nlp.item_vectors import ItemVectors
from recmesh.models.nlp.training import item_text
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.appended_vectors import Float32, append_vectors
from recmesh.storage.catalog_log import CatalogLog, Indexed, Write
from recmesh.storage.catalog_overlay import DELETED, CatalogChanges, CatalogOverlay
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.errors import InvalidRequestError, RecMeshError
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.index_rows import IndexRows, content_hash, item_rows
from recmesh.storage.vector_index import VectorIndex
from recmesh.v1 import model_pb2

log = structlog.get_logger(__name__)

POLL_S = 0.25
RETRY_S = 1.0
MOST_TOGETHER = 500
"""Changes between two commits of the position."""
EMBEDDED_TOGETHER = 16
"""Texts of one call: few, so that requests get their turn at the model."""
MOST_EMBEDDED_CHARACTERS = 8_000
"""Of one text: 32 kB at most, as the contract says; encoders read far fewer."""
EMBED_TIMEOUT_S = 30.0
ITEM_COLUMNS = (
    "item_id",
    "content_type",
    "title",
    "abstract",
    "topics",
    "specialties",
    "language",
    "countries",
    "published_at",
    "expires_at",
    "sponsor",
)
CAMPAIGN_COLUMNS = ("campaign_id", "item_ids")
COLUMNS = {"items": ITEM_COLUMNS, "campaigns": CAMPAIGN_COLUMNS}


@dataclass(slots=True)
class ItemIndexer:
    """Follows the log for one embedding version, in its own space. Belongs to one event loop."""

    catalog: CatalogLog
    commits: GroupCommit[Write]
    index: VectorIndex
    embedder: ModelClient
    record: EmbeddingVersion
    dataset: Path
    """Folder of what was ingested."""
    vectors: ItemVectors
    """Vectors that the language model has of items."""
    asked: Mapping[str, Sequence[str]]
    """Earlier queries that led to items, by item id."""
    appended: Path
    """Where it finds those made after its training."""
    _hashes: dict[str, str] = field(default_factory=dict, init=False)
    """Of the texts that the index holds, by item id."""
    _campaigns: pa.Table | None = field(default=None, init=False)
    _position: int | None = field(default=None, init=False)

    async def run(self) -> None:
        """Follows for ever; cancel to end. Whatever fails is tried again."""
        said = ""
        while True:
            try:
                done = await self.step()
            except RecMeshError as error:
                if said != str(error):
                    said = str(error)
                    log.warning("indexing_waits", reason=said)
                await asyncio.sleep(RETRY_S)
            except Exception:
                # The loop outlives whatever one row may bring about.
                log.exception("indexing_failed")
                await asyncio.sleep(RETRY_S)
            else:
                said = ""
                if done:
                    await asyncio.sleep(POLL_S)

    async def step(self) -> bool:
        """Takes the next changes; returns whether those were all.

        Raises:
            RecMeshError: database, index or model failed; the position is where it was.
        """
        if self._position is None:
            self._hashes = await self.index.content_hashes(self.record.collection)
            known = await asyncio.to_thread(self.catalog.index_position, self.record.collection)
            self._position = max(self.record.catalog_seq, known or 0)
        changes = await asyncio.to_thread(
            self.catalog.read, self._position, limit=MOST_TOGETHER, columns=COLUMNS
        )
        if changes.through_seq > self._position:
            await self._take(changes)
            done = Indexed(self.record.collection, changes.through_seq)
            await asyncio.wrap_future(self.commits.submit(done))
            self._position = changes.through_seq
        return changes.through_seq == changes.head_seq

    async def _take(self, changes: CatalogChanges) -> None:
        """Brings the changes into the index."""
        changed = changes.tables["items"]
        items = changed.filter(pc.invert(changed[DELETED])).drop_columns([DELETED])
        gone: list[str] = changed.filter(changed[DELETED])["item_id"].to_pylist()
        if self._campaigns is None or changes.tables["campaigns"].num_rows:
            self._campaigns, paid = await asyncio.to_thread(self._paid, changes.tables["campaigns"])
            also = pc.invert(pc.is_in(paid["item_id"], value_set=items["item_id"].combine_chunks()))
            items = pa.concat_tables([items, paid.filter(also)])
        if items.num_rows:
            await self._upsert(items, changes.through_seq)
        if gone:
            await self.index.delete(self.record.collection, gone)
            for item_id in gone:
                self._hashes.pop(item_id, None)

    def _paid(self, changed: pa.Table) -> tuple[pa.Table, pa.Table]:
        """All campaigns, and the items that the changed ones pay for."""
        dataset = Dataset.open(self.dataset).under(CatalogOverlay(self.catalog.read()))
        named = pc.unique(pc.list_flatten(changed["item_ids"]))
        items = dataset.items.select(ITEM_COLUMNS)
        paid = items.filter(pc.is_in(items["item_id"], value_set=named))
        return dataset.campaigns.select(CAMPAIGN_COLUMNS), paid

    async def _upsert(self, items: pa.Table, seq: int) -> None:
        ids: list[str] = items["item_id"].to_pylist()
        pairs = zip(items["title"].to_pylist(), items["abstract"].to_pylist(), strict=True)
        texts = [item_text(title, abstract) for title, abstract in pairs]
        hashes = [content_hash(text) for text in texts]
        row_of, known = self.vectors.current()
        new = {
            item_id: text
            for item_id, text, hash_ in zip(ids, texts, hashes, strict=True)
            if self._hashes.get(item_id) != hash_ or item_id not in row_of
        }
        made = await self._embed(new)
        vectors = np.stack([made[i] if i in made else known[row_of[i]] for i in ids])
        rows = item_rows(items, self._campaigns, vectors, texts, self.record.version, self.asked)
        await asyncio.to_thread(append_vectors, self.appended, self.record.version, seq, made)
        await self._write(rows)
        self._hashes.update(zip(ids, hashes, strict=True))

    async def _write(self, rows: IndexRows) -> None:
        """Upserts; a row that the index refuses must not keep the others out for ever."""
        try:
            await self.index.upsert(self.record.collection, rows)
        except InvalidRequestError as error:
            if len(rows) == 1:
                log.error("item_not_indexed", reason=str(error))
                return
            middle = len(rows) // 2
            await self._write(rows[:middle])
            await self._write(rows[middle:])

    async def _embed(self, texts: Mapping[str, str]) -> dict[str, Float32]:
        ids = list(texts)
        vectors: dict[str, Float32] = {}
        for start in range(0, len(ids), EMBEDDED_TOGETHER):
            some = ids[start : start + EMBEDDED_TOGETHER]
            batch = [texts[item_id][:MOST_EMBEDDED_CHARACTERS] for item_id in some]
            answer = await self.embedder.embed(
                model_pb2.EmbedRequest(
                    texts=model_pb2.TextBatch(texts=batch),
                    embedding_version=self.record.version,
                ),
                timeout_s=EMBED_TIMEOUT_S,
            )
            if answer.embedding_version != self.record.version:
                raise RecMeshError(
                    f"{self.embedder.name} speaks {answer.embedding_version}, the index "
                    f"{self.record.version}; run: recmesh index && recmesh up"
                )
            made = np.array(answer.values, np.float32).reshape(len(some), -1)
            vectors.update(zip(some, made, strict=True))
        return vectors
