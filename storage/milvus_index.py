"""Milvus, embedded or a server, behind the vector index port.

Only what Milvus Lite 2.5 and Milvus servers share is used: no aliases, no nullable
fields, no filter templates, no escapes of control characters in expressions.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
from opentelemetry.trace import SpanKind
from pymilvus import (
    AsyncMilvusClient,
    DataType,
    Function,
    FunctionType,
    MilvusException,
)

from recmesh.storage.errors import (
    ConfigurationError,
    DeadlineError,
    NotFoundError,
    RecMeshError,
    UnavailableError,
)
from recmesh.storage.index_choice import IndexChoice, index_for, search_parameters
from recmesh.storage.index_filter import IndexFilter, any_id, quoted
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.telemetry.spans import failed, span
from recmesh.storage.vector_index import (
    MAX_LIMIT,
    Float32,
    Hits,
    IndexQuery,
    check_field,
    check_limit,
)
from recmesh.storage.vector_schema import (
    ID,
    MAX_ID_BYTES,
    MAX_TERM_BYTES,
    MAX_TERMS,
    MAX_TEXT_BYTES,
    SPARSE,
    TEXT,
    VECTOR,
    FieldType,
    IndexField,
    IndexSchema,
)

# It logs every error with a traceback before it raises it; who catches it decides.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

ADMIN_TIMEOUT_S = 30.0
BATCH = 500
"""Rows of one message: 33 MB at most, half of what a Milvus server takes."""
CHANNEL = {
    # Each attempt to connect anew is one: channels that share what they know of an address
    # also share how long to leave it alone.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
}
NOT_FOUND_CODE = 100  # Milvus' CollectionNotFound
UNSAFE_IN_KEYS = re.compile(r"""[\x00-\x1f\x7f"'\\%\ud800-\udfff]""")


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


def _unimplemented(error: grpc.RpcError) -> bool:
    return hasattr(error, "code") and error.code() is grpc.StatusCode.UNIMPLEMENTED


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


@dataclass(frozen=True, slots=True)
class _Collection:
    """What was learnt of a collection when it was loaded."""

    name: str
    dim: int
    fields: frozenset[str]
    """Beside the id, vector, text and sparse vector."""
    index_type: str

    def check(self, schema: IndexSchema) -> None:
        if self.fields != set(schema.by_name):
            raise ConfigurationError(
                f"{self.name} was not made for the schema of {schema.name}; run: recmesh index"
            )


class MilvusIndex:
    """A :class:`~recmesh.storage.vector_index.VectorIndex` on Milvus at ``uri``."""

    def __init__(self, uri: str) -> None:
        self._client = AsyncMilvusClient(uri=uri, grpc_options=CHANNEL)
        self._loaded: dict[str, _Collection] = {}

    async def create(
        self, collection: str, schema: IndexSchema, dim: int, *, expected_rows: int = 0
    ) -> None:
        """See the port."""
        await self.drop(collection)
        async with _calls(collection, ADMIN_TIMEOUT_S):
            choice = index_for(expected_rows, embedded=await self._embedded())
            made = _milvus_schema(schema, dim)
            await self._client.create_collection(collection, schema=made)
            # Side by side: the client waits half a second for each.
            await asyncio.gather(
                self._create_index(collection, VECTOR, choice, "COSINE"),
                self._create_index(
                    collection, SPARSE, IndexChoice("SPARSE_INVERTED_INDEX", {}), "BM25"
                ),
            )
        async with self._on(collection, ADMIN_TIMEOUT_S):
            pass

    async def _create_index(
        self, collection: str, field: str, choice: IndexChoice, metric: str
    ) -> None:
        index = self._client.prepare_index_params()
        index.add_index(
            field, index_type=choice.index_type, metric_type=metric, params=choice.parameters
        )
        try:
            await self._client.create_index(collection, index)
        except grpc.RpcError as error:
            # Milvus Lite 3 makes it at once, and has no call to wait for it by.
            if not _unimplemented(error):
                raise

    async def _embedded(self) -> bool:
        """Whether Milvus is the embedded one, which knows fewer kinds of index."""
        try:
            return "lite" in str(await self._client.get_server_version()).lower()
        except grpc.RpcError as error:
            if _unimplemented(error):
                return True
            raise

    async def _load(self, collection: str) -> _Collection:
        """Collections must be loaded once after the server (re)started."""
        known = self._loaded.get(collection)
        if known is None:
            await self._client.load_collection(collection)
            described = await self._client.describe_collection(collection)
            fields = {field["name"]: field for field in described["fields"]}
            if not {ID, VECTOR, TEXT, SPARSE} <= set(fields):
                raise ConfigurationError(f"{collection} is not RecMesh's; run: recmesh index")
            index = await self._client.describe_index(collection, VECTOR)
            known = self._loaded[collection] = _Collection(
                collection,
                int(fields[VECTOR]["params"]["dim"]),
                frozenset(fields) - {ID, VECTOR, TEXT, SPARSE},
                str((index or {}).get("index_type", "")),
            )
        return known

    @asynccontextmanager
    async def _on(
        self, collection: str, timeout_s: float, operation: str = "query"
    ) -> AsyncIterator[_Collection]:
        """Calls on a loaded collection; after a failure the next call loads it anew."""
        with span(f"{operation} {collection}", SpanKind.CLIENT) as traced:
            traced.set_attributes(
                {
                    "db.system.name": "milvus",
                    "db.operation.name": operation,
                    "db.collection.name": collection,
                }
            )
            try:
                async with _calls(collection, timeout_s):
                    yield await self._load(collection)
            except (UnavailableError, NotFoundError) as error:
                self._loaded.pop(collection, None)
                failed(traced, type(error).__name__)
                raise

    async def upsert(self, collection: str, rows: IndexRows) -> None:
        """See the port."""
        async with self._on(collection, ADMIN_TIMEOUT_S) as known:
            known.check(rows.schema)
        checked = rows.checked(known.dim)
        for start in range(0, len(rows), BATCH):
            async with self._on(collection, ADMIN_TIMEOUT_S):
                await self._client.upsert(collection, _entities(checked[start : start + BATCH]))

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """See the port."""
        stored = [_key(id_) for id_ in ids]
        async with self._on(collection, ADMIN_TIMEOUT_S):
            for start in range(0, len(stored), BATCH):
                await self._client.delete(collection, filter=any_id(stored[start : start + BATCH]))

    async def count(self, collection: str) -> int:
        """See the port."""
        async with self._on(collection, ADMIN_TIMEOUT_S):
            rows = await self._client.query(
                collection, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    async def content_hashes(self, collection: str) -> dict[str, str]:
        """See the port."""
        hashes: dict[str, str] = {}
        last = ""
        while True:
            async with self._on(collection, ADMIN_TIMEOUT_S):
                page = await self._client.query(
                    collection,
                    filter=f"{ID} > {quoted(last)}",
                    output_fields=[ID, "content_hash"],
                    limit=MAX_LIMIT,
                    consistency_level="Strong",
                    iterator="True",  # a page in the order of the ids, none left out
                )
            if not page:
                return hashes
            hashes |= {_id(row[ID]): row["content_hash"] for row in page}
            # Milvus compares bytes, as the order of code points does.
            last = max(row[ID] for row in page)

    async def fetch(
        self, collection: str, ids: Sequence[str], field: str, *, timeout_s: float
    ) -> dict[str, Any]:
        """See the port."""
        async with self._on(collection, timeout_s) as known:
            check_field(field, known.fields)
            if not ids:
                return {}
            check_limit(len(ids))
            rows = await self._client.query(
                collection,
                filter=any_id([_key(id_) for id_ in ids]),
                output_fields=[ID, field],
                consistency_level="Session",
                timeout=timeout_s,
            )
        return {_id(row[ID]): _value(row[field]) for row in rows}

    async def search(
        self,
        collection: str,
        query: IndexQuery,
        limit: int,
        *,
        where: IndexFilter | None = None,
        timeout_s: float,
    ) -> Hits:
        """See the port."""
        check_limit(limit)
        async with self._on(collection, timeout_s, "search") as known:
            if where is not None:
                known.check(where.schema)
            asked = query.checked(known.dim)
            common = {
                "limit": limit,
                "filter": where.expression() if where else "",
                # Sees this client's writes; waits for nobody else's.
                "consistency_level": "Session",
                "timeout": timeout_s,
            }
            searches = []
            if asked.vectors is not None:
                near = search_parameters(known.index_type, limit)
                searches.append(
                    self._client.search(
                        collection,
                        data=list(asked.vectors),
                        anns_field=VECTOR,
                        search_params={"metric_type": "COSINE", "params": near},
                        **common,
                    )
                )
            if asked.text:
                searches.append(
                    self._client.search(
                        collection,
                        data=[asked.text],
                        anns_field=SPARSE,
                        search_params={"metric_type": "BM25"},
                        **common,
                    )
                )
            found = await asyncio.gather(*searches)
        # BM25 is never negative; Milvus Lite 3 gives it with the wrong sign, best first still.
        legs = [
            ([_id(key) for key in hits.ids], np.array(hits.distances, np.float32))
            for answer in found
            for hits in answer
        ]
        if asked.text:
            legs[-1] = (legs[-1][0], np.abs(legs[-1][1]))
        return Hits.joined(legs, words=int(bool(asked.text)))

    async def drop(self, collection: str) -> None:
        """See the port."""
        self._loaded.pop(collection, None)
        async with _calls(collection, ADMIN_TIMEOUT_S):
            if await self._client.has_collection(collection):
                await self._client.drop_collection(collection)

    async def close(self) -> None:
        """See the port."""
        await self._client.close()


def _milvus_schema(schema: IndexSchema, dim: int) -> Any:
    made = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=3 * MAX_ID_BYTES)
    made.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    made.add_field(TEXT, DataType.VARCHAR, max_length=MAX_TEXT_BYTES, enable_analyzer=True)
    made.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
    made.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=[TEXT],
            output_field_names=[SPARSE],
        )
    )
    for field in schema.fields:
        made.add_field(field.name, **_milvus_type(field))
    return made


def _milvus_type(field: IndexField) -> dict[str, Any]:
    if field.type is FieldType.UNIX_S:
        return {"datatype": DataType.INT64}
    if field.type is FieldType.TERM:
        return {"datatype": DataType.VARCHAR, "max_length": MAX_TERM_BYTES}
    if field.type is FieldType.TEXT:
        return {"datatype": DataType.VARCHAR, "max_length": MAX_TEXT_BYTES}
    return {
        "datatype": DataType.ARRAY,
        "element_type": DataType.VARCHAR,
        "max_capacity": MAX_TERMS,
        "max_length": MAX_TERM_BYTES,
    }


def _key(id_: str) -> str:
    """An id as the collection holds it.

    The embedded Milvus replaces rows by an expression that it writes itself and in which it
    escapes nothing: a quote in an id would end the literal. They are percent-encoded.
    """
    return UNSAFE_IN_KEYS.sub(lambda found: f"%{ord(found[0]):02X}", id_)


def _id(key: str) -> str:
    """The id of a key."""
    return unquote(key) if "%" in key else key


def _value(stored: Any) -> Any:
    """A field's value: vectors as arrays, terms as a list."""
    if isinstance(stored, str | int):
        return stored
    values = list(stored)
    return (
        np.array(values, np.float32) if isinstance(values[0] if values else "", float) else values
    )


def _entities(rows: IndexRows) -> list[dict[str, Any]]:
    """The rows as the client takes them."""
    names = [ID, VECTOR, TEXT, *rows.columns]
    columns = [c.tolist() if isinstance(c, np.ndarray) else c for c in rows.columns.values()]
    vectors: Float32 = rows.vectors
    return [
        dict(zip(names, values, strict=True))
        for values in zip(map(_key, rows.ids), vectors, rows.texts, *columns, strict=True)
    ]
