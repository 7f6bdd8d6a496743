"""Rows on their way into the vector index: checked as a whole before any is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.index_filter import Column, storable
from recmesh.storage.unix_time import NEVER_UNIX_S, UNKNOWN_UNIX_S, unix_s
from recmesh.storage.vector_schema import (
    ITEM_INDEX,
    MAX_ID_BYTES,
    MAX_TERM_BYTES,
    MAX_TERMS,
    MAX_TEXT_BYTES,
    FieldType,
    IndexField,
    IndexSchema,
)
from recmesh.storage.word_analysis import analysed

Float32 = npt.NDArray[np.float32]


def content_hash(text: str) -> str:
    """Of a text that was embedded: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def cut(text: str) -> str:
    """The text's first 65,535 bytes of UTF-8, without half a character at the end."""
    if text.isascii() and len(text) <= MAX_TEXT_BYTES:
        return text
    return text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")


def check_vectors(vectors: Float32, dim: int, field: str) -> None:
    """Refuses vectors that cannot be compared by cosine in ``dim`` dimensions.

    Raises:
        InvalidRequestError: the shape is not ``[n, dim]``, or a vector is not finite or is
            all zero; names ``field`` and the first row at fault.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InvalidRequestError(field, f"shape is {vectors.shape}; it is [n, {dim}]")
    # Summed in float64: the square of a large float32 is none.
    squared = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(squared) & (squared > 0)))
    if len(bad):
        raise InvalidRequestError(f"{field}[{bad[0]}]", "is not finite, or all zero")


@dataclass(frozen=True, slots=True)
class IndexRows:
    """Rows of one schema, column by column; all columns have one entry a row."""

    schema: IndexSchema
    ids: Sequence[str]
    vectors: Float32
    """``[n, dim]``."""
    texts: Sequence[str]
    """The words that BM25 compares; longer ones are cut to 65,535 bytes."""
    columns: Mapping[str, Column]
    """Exactly the schema's fields."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> IndexRows:
        columns = {name: column[part] for name, column in self.columns.items()}
        return replace(
            self,
            ids=self.ids[part],
            vectors=self.vectors[part],
            texts=self.texts[part],
            columns=columns,
        )

    def checked(self, dim: int) -> IndexRows:
        """The rows as they may be written to a collection of ``dim`` dimensions.

        Raises:
            InvalidRequestError: a row breaks the schema; names the column and the row.
        """
        if set(self.columns) != set(self.schema.by_name):
            wrong = sorted(set(self.columns) ^ set(self.schema.by_name))
            raise InvalidRequestError(
                "columns", f"those of {self.schema.name} are missing or unknown: {', '.join(wrong)}"
            )
        lengths = {"vectors": len(self.vectors), "texts": len(self.texts)}
        lengths |= {name: len(column) for name, column in self.columns.items()}
        for name, length in lengths.items():
            if length != len(self.ids):
                raise InvalidRequestError(name, f"has {length} rows of {len(self.ids)}")
        if len(set(self.ids)) != len(self.ids):
            raise InvalidRequestError("ids", "an id is there twice")
        for row, id_ in enumerate(self.ids):
            _check_length(id_, MAX_ID_BYTES, "ids", row)
        check_vectors(self.vectors, dim, "vectors")
        columns = {
            field.name: _checked(self.columns[field.name], field) for field in self.schema.fields
        }
        return replace(self, texts=[cut(text) for text in self.texts], columns=columns)


def _check_length(text: str, most: int, field: str, row: int) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{field}[{row}]", "is not valid Unicode") from error
    if not 1 <= length <= most:
        raise InvalidRequestError(f"{field}[{row}]", f"has {length} bytes; from 1 to {most}")


def _check_term(term: str, field: str, row: int) -> None:
    _check_length(term, MAX_TERM_BYTES, field, row)
    if not storable(term):
        raise InvalidRequestError(f"{field}[{row}]", "holds a control character")


def _checked(column: Column, field: IndexField) -> Column:
    if field.type is FieldType.UNIX_S:
        moments = np.asarray(column)
        if moments.dtype.kind not in "iu":
            raise InvalidRequestError(field.name, f"is {moments.dtype}; seconds are int64")
        return moments.astype(np.int64)
    if field.type is FieldType.TEXT:
        return [cut(str(text)) for text in column]
    for row, value in enumerate(column):
        if field.type is FieldType.TERM:
            if value:
                _check_term(str(value), field.name, row)
            continue
        if len(value) > MAX_TERMS:
            raise InvalidRequestError(
                f"{field.name}[{row}]", f"has {len(value)} terms; at most {MAX_TERMS}"
            )
        for term in value:
            _check_term(term, field.name, row)
    return column


def _terms(column: pa.ChunkedArray) -> list[list[str]]:
    """Lists of terms as the index can hold them.

    What it cannot hold no caller can ask for: the contract's own limits are narrower.
    """
    return [
        [t for t in terms if t and storable(t) and len(t.encode()) <= MAX_TERM_BYTES][:MAX_TERMS]
        for terms in column.to_pylist()
    ]


def _term(column: pa.ChunkedArray) -> list[str]:
    terms = column.to_pylist()
    return [t if storable(t) and len(t.encode()) <= MAX_TERM_BYTES else "" for t in terms]


def item_rows(
    items: pa.Table,
    campaigns: pa.Table,
    vectors: Float32,
    texts: Sequence[str],
    embedding_version: str,
    asked: Mapping[str, Sequence[str]] | None = None,
) -> IndexRows:
    """Rows of content.

    Args:
        items: of the interchange format, ``n`` rows.
        campaigns: of the interchange format; those that pay for the items.
        vectors: of the items, ``[n, dim]``.
        texts: that were embedded, one an item; BM25 reads them too.
        embedding_version: the vectors' space.
        asked: by item id, earlier queries that led to it: BM25 reads them as part of its text, so
            that it is found by the words people ask with (document expansion, Nogueira et al.
            2019, by queries that were really asked).
    """
    paying: dict[str, list[str]] = {}
    for campaign in campaigns.select(["campaign_id", "item_ids"]).to_pylist():
        for item_id in campaign["item_ids"]:
            paying.setdefault(item_id, []).append(campaign["campaign_id"])
    ids = items["item_id"].to_pylist()
    columns: dict[str, Column] = {
        "content_type": _term(items["content_type"]),
        "topics": _terms(items["topics"]),
        "specialties": _terms(items["specialties"]),
        "language": _term(items["language"]),
        "countries": _terms(items["countries"]),
        "published_at": unix_s(items["published_at"], UNKNOWN_UNIX_S),
        "expires_at": unix_s(items["expires_at"], NEVER_UNIX_S),
        "sponsor": _term(items["sponsor"]),
        "campaign_ids": [paying.get(item_id, []) for item_id in ids],
        "abstract": items["abstract"].to_pylist(),
        "embedding_version": [embedding_version] * len(ids),
        "content_hash": [content_hash(text) for text in texts],
    }
    queries = asked or {}
    words = [
        analysed(" ".join([text, *queries.get(item_id, ())]), language)
        for item_id, text, language in zip(ids, texts, columns["language"], strict=True)
    ]
    return IndexRows(ITEM_INDEX, ids, vectors, words, columns)
