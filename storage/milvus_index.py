"""Milvus, embedded or a server, behind the vector index port.

Only what Milvus Lite 2.5 and Milvus servers share is used: no aliases, no nullable
fields, no filter templates.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from pymilvus import (
    AnnSearchRequest,
    AsyncMilvusClient,
    DataType,
    Function,
    FunctionType,
    MilvusException,
    RRFRanker,
)

from recmesh.storage.errors import DeadlineError, NotFoundError, RecMeshError, UnavailableError
from recmesh.storage.vector_index import Float32, IndexedItem, Neighbours

ADMIN_TIMEOUT_S = 30.0
BATCH = 500
MAX_ID_LENGTH = 512
MAX_TEXT_BYTES = 65_535
NOT_FOUND_CODE = 100  # Milvus' CollectionNotFound


def _translated(error: Exception, collection: str) -> RecMeshError:
    if isinstance(error, grpc.RpcError):
        code = error.code() if hasattr(error, "code") else None
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError("the vector index took too long")
        return UnavailableError(f"the vector index failed ({code})")
    text = str(error).lower()
    missing = "not found" in text or "not exist" in text or "can't find" in text
    if getattr(error, "code", None) == NOT_FOUND_CODE or ("collection" in text and missing):
        return NotFoundError(f"no collection {collection}")
    if "deadline" in text or "timeout" in text:
        return DeadlineError("the vector index took too long")
    return UnavailableError("the vector index failed")


@asynccontextmanager
async def _calls(collection: str, timeout_s: float) -> AsyncIterator[None]:
    """Bounds the time of the calls inside and translates what they raise."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise DeadlineError(f"the vector index took over {timeout_s:.3f} s") from error
    except (grpc.RpcError, MilvusException, ConnectionError) as error:
        raise _translated(error, collection) from error


class MilvusIndex:
    """A :class:`~recmesh.storage.vector_index.VectorIndex` on Milvus at ``uri``."""

    def __init__(self, uri: str) -> None:
        self._client = AsyncMilvusClient(uri=uri)
        self._loaded: set[str] = set()

    async def create(self, collection: str, dim: int) -> None:
        """See the port."""
        await self.drop(collection)
        schema = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("item_id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_LENGTH)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("text", DataType.VARCHAR, max_length=MAX_TEXT_BYTES, enable_analyzer=True)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function(
                name="bm25",
                function_type=FunctionType.BM25,
                input_field_names=["text"],
                output_field_names=["sparse"],
            )
        )
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="COSINE")
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        async with _calls(collection, ADMIN_TIMEOUT_S):
            await self._client.create_collection(collection, schema=schema, index_params=indexes)
        await self._load(collection, ADMIN_TIMEOUT_S)

    async def _load(self, collection: str, timeout_s: float) -> None:
        """Collections must be loaded once after the server (re)started."""
        if collection not in self._loaded:
            async with _calls(collection, timeout_s):
                await self._client.load_collection(collection)
            self._loaded.add(collection)

    @asynccontextmanager
    async def _on(self, collection: str, timeout_s: float) -> AsyncIterator[None]:
        """Calls on a loaded collection; after a failure the next call loads it anew."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._load(collection, timeout_s)
                async with _calls(collection, timeout_s):
                    yield
        except TimeoutError as error:
            raise DeadlineError(f"the vector index took over {timeout_s:.3f} s") from error
        except (UnavailableError, NotFoundError):
            self._loaded.discard(collection)
            raise

    async def upsert(self, collection: str, items: Sequence[IndexedItem]) -> None:
        """See the port."""
        rows = [
            {
                "item_id": item.item_id,
                "vector": item.vector.tolist(),
                "text": item.text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore"),
            }
            for item in items
        ]
        for start in range(0, len(rows), BATCH):
            async with self._on(collection, ADMIN_TIMEOUT_S):
                await self._client.upsert(collection, rows[start : start + BATCH])

    async def delete(self, collection: str, item_ids: Sequence[str]) -> None:
        """See the port."""
        async with self._on(collection, ADMIN_TIMEOUT_S):
            if item_ids:
                await self._client.delete(collection, ids=list(item_ids))

    async def count(self, collection: str) -> int:
        """See the port."""
        async with self._on(collection, ADMIN_TIMEOUT_S):
            rows = await self._client.query(
                collection, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    async def search(
        self, collection: str, vector: Float32, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """See the port."""
        async with self._on(collection, timeout_s):
            found = await self._client.search(
                collection,
                data=[vector.tolist()],
                anns_field="vector",
                limit=limit,
                search_params={"metric_type": "COSINE"},
                consistency_level="Strong",
                timeout=timeout_s,
            )
        return _neighbours(found)

    async def search_hybrid(
        self, collection: str, vector: Float32, text: str, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """See the port."""
        near = AnnSearchRequest([vector.tolist()], "vector", {"metric_type": "COSINE"}, limit)
        worded = AnnSearchRequest([text], "sparse", {"metric_type": "BM25"}, limit)
        async with self._on(collection, timeout_s):
            found = await self._client.hybrid_search(
                collection, [near, worded], RRFRanker(), limit, timeout=timeout_s
            )
        return _neighbours(found)

    async def drop(self, collection: str) -> None:
        """See the port."""
        self._loaded.discard(collection)
        async with _calls(collection, ADMIN_TIMEOUT_S):
            if await self._client.has_collection(collection):
                await self._client.drop_collection(collection)

    async def close(self) -> None:
        """See the port."""
        await self._client.close()


def _neighbours(found: Any) -> Neighbours:
    hits = found[0] if found else []
    ids = [str(hit["item_id"] if "item_id" in hit else hit["id"]) for hit in hits]
    return Neighbours(ids, np.array([hit["distance"] for hit in hits], np.float32))
