"""The port to nearest-neighbour search.

Adapters: :mod:`recmesh.storage.milvus_index` (Milvus, embedded or a server) and
:mod:`recmesh.storage.exact_index` (NumPy, the reference in tests). One conformance suite
runs on all of them.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.index_filter import IndexFilter
from recmesh.storage.index_rows import IndexRows, check_vectors, cut
from recmesh.storage.vector_schema import VECTOR, IndexSchema

Float32 = npt.NDArray[np.float32]

MAX_LIMIT = 16_384
"""Most rows of one leg: Milvus' own bound."""


def check_limit(limit: int) -> None:
    """Refuses limits out of their range.

    Raises:
        InvalidRequestError: names the range.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequestError("limit", f"is {limit}; it lies in [1, {MAX_LIMIT}]")


def check_field(field: str, fields: Container[str]) -> None:
    """Refuses fields that a collection does not have.

    Raises:
        InvalidRequestError: names the field.
    """
    if field != VECTOR and field not in fields:
        raise InvalidRequestError("field", f"the collection has no {field!r}")


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """What to look for: by meaning, by words, or by both."""

    vectors: Float32 | None = None
    """``[n, dim]``, finite and not all zero; each is searched on its own, for users with
    several interests. None: no search by meaning."""
    text: str = ""
    """Words to search by BM25, analysed as those of the rows; cut to 65,535 bytes. Empty: no
    search by words."""

    def checked(self, dim: int) -> IndexQuery:
        """The query as a collection of ``dim`` dimensions can answer it.

        Raises:
            InvalidRequestError: it asks for nothing, or a vector cannot be compared.
        """
        if self.vectors is not None:
            check_vectors(self.vectors, dim, "vectors")
        vectors = self.vectors if self.vectors is not None and len(self.vectors) else None
        text = cut(self.text) if self.text.strip() else ""
        if vectors is None and not text:
            raise InvalidRequestError("query", "has neither vectors nor words")
        return IndexQuery(vectors, text)


@dataclass(frozen=True, slots=True)
class Hits:
    """Distinct rows that a search found, each with the score of every leg that found it.

    Ordered by cosine, then by BM25, both descending; who wants one order of both fuses them.
    """

    ids: list[str]
    dense: Float32
    """Cosine in [-1, 1], of the query's nearest vector that found it ``[n]``; NaN: none did."""
    words: Float32
    """BM25, above 0 ``[n]``; NaN: not found by words."""

    @classmethod
    def joined(cls, legs: Sequence[tuple[Sequence[str], Float32]], words: int) -> Hits:
        """From every leg's ids and scores; the last ``words`` (0 or 1) of them by words."""
        dense: dict[str, float] = {}
        for ids, scores in legs[: len(legs) - words]:
            for id_, score in zip(ids, scores.tolist(), strict=True):
                dense[id_] = max(score, dense.get(id_, score))
        worded: dict[str, float] = {}
        for ids, scores in legs[len(legs) - words :]:
            worded = dict(zip(ids, scores.tolist(), strict=True))
        nowhere = float("nan")
        found = list(dense | worded)
        near = np.array([dense.get(id_, nowhere) for id_ in found], np.float32)
        matched = np.array([worded.get(id_, nowhere) for id_ in found], np.float32)
        order = np.lexsort((-matched, -near))  # NaN comes last
        return cls([found[row] for row in order.tolist()], near[order], matched[order])


class VectorIndex(Protocol):
    """Collections of rows that are found by vector, by words, or by both.

    All calls raise :class:`~recmesh.storage.errors.UnavailableError` when the index
    cannot be reached, :class:`~recmesh.storage.errors.DeadlineError` when ``timeout_s``
    passes, :class:`~recmesh.storage.errors.NotFoundError` for an unknown collection, and
    :class:`~recmesh.storage.errors.ConfigurationError` for one that was made for another
    schema. An adapter belongs to the event loop it was made in.
    """

    async def create(
        self, collection: str, schema: IndexSchema, dim: int, *, expected_rows: int = 0
    ) -> None:
        """Makes an empty collection; replaces one of the same name.

        ``expected_rows`` chooses the kind of index: :mod:`recmesh.storage.index_choice`.
        """

    async def upsert(self, collection: str, rows: IndexRows) -> None:
        """Adds or replaces rows. This adapter's searches find them once the call returns.

        When the index fails meanwhile, some of the rows may be written: upsert them again.

        Raises:
            InvalidRequestError: a row breaks the schema; nothing was written.
        """

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Removes rows; unknown ids are not errors."""

    async def count(self, collection: str) -> int:
        """Rows in the collection."""

    async def content_hashes(self, collection: str) -> dict[str, str]:
        """Every row's ``content_hash`` by its id: what need not be embedded again."""

    async def fetch(
        self, collection: str, ids: Sequence[str], field: str, *, timeout_s: float
    ) -> dict[str, Any]:
        """One field of the rows with these ids; unknown ids are left out.

        Args:
            collection: where to look.
            ids: at most 16,384.
            field: of the collection's schema, or ``vector`` (float32 ``[dim]``).
            timeout_s: for the call.

        Raises:
            InvalidRequestError: there is no such field, or the ids are too many.
        """

    async def search(
        self,
        collection: str,
        query: IndexQuery,
        limit: int,
        *,
        where: IndexFilter | None = None,
        timeout_s: float,
    ) -> Hits:
        """The best rows of every leg, of those that meet the filter.

        A leg is one vector of the query, or its words.

        Args:
            collection: where to look.
            query: what to look for.
            limit: rows of each leg, from 1 to 16,384.
            where: narrows the rows before they are searched, not after.
            timeout_s: for all legs together.

        Raises:
            InvalidRequestError: the query asks for nothing, a vector has another dimension
                or is not finite, or the limit is out of its range.
        """

    async def drop(self, collection: str) -> None:
        """Removes a collection; an unknown one is not an error."""

    async def close(self) -> None:
        """Lets go of connections."""
