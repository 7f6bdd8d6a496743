"""Rows to fill a vector index with, and how tests search it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.storage.index_filter import Column, Condition, IndexFilter
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.storage.vector_index import Float32, Hits, IndexQuery, VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX, FieldType, IndexSchema

DIM = 8
TEXTS = ["heart failure", "skin rash", "heart rhythm", "kidney stones", "sleep apnoea"]
SERVER = "RECMESH_TEST_MILVUS_URI"
SHARED, OWN = f"shared_{ITEM_INDEX.fingerprint}", "own"


def vectors(count: int = len(TEXTS)) -> Float32:
    drawn = np.random.default_rng(7).normal(size=(count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def rows_of(
    ids: Sequence[str],
    texts: Sequence[str] | None = None,
    near: Float32 | None = None,
    schema: IndexSchema = ITEM_INDEX,
    **columns: Column,
) -> IndexRows:
    """Rows with blanks filled in."""
    blank: dict[FieldType, Column] = {
        FieldType.TERM: [""] * len(ids),
        FieldType.TERMS: [[]] * len(ids),
        FieldType.UNIX_S: np.zeros(len(ids), np.int64),
        FieldType.TEXT: [""] * len(ids),
    }
    filled = {field.name: columns.get(field.name, blank[field.type]) for field in schema.fields}
    return IndexRows(
        schema,
        ids,
        vectors(len(ids)) if near is None else near,
        [""] * len(ids) if texts is None else texts,
        filled,
    )


ITEMS = rows_of(
    [f"i{n}" for n in range(len(TEXTS))],
    TEXTS,
    content_type=["article", "video", "article", "case", ""],
    topics=[["heart"], ["skin", "rash"], ["heart", "rhythm"], ["kidney"], []],
    countries=[["DE", "FR"], [], ["US"], ["FR"], []],
    published_at=np.array([0, 100, 200, 300, 400]),
    expires_at=np.array([NEVER_UNIX_S, 1_000, 50, NEVER_UNIX_S, 400]),
    content_hash=[f"hash{n}" for n in range(len(TEXTS))],
    abstract=[f'An "abstract" of {text}.\nSecond line.' for text in TEXTS],
)


def near(row: int) -> IndexQuery:
    return IndexQuery(vectors()[[row]])


async def search(
    index: VectorIndex,
    query: IndexQuery,
    limit: int = 5,
    where: Sequence[Condition] = (),
    collection: str = "",
) -> Hits:
    narrowed = IndexFilter(ITEM_INDEX, tuple(where)) if where else None
    return await index.search(collection or SHARED, query, limit, where=narrowed, timeout_s=5)
