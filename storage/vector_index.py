"""The port to nearest-neighbour search, and the record that says what is live.

Adapters: :mod:`recmesh.storage.milvus_index` (Milvus, embedded or a server) and
:mod:`recmesh.storage.exact_index` (NumPy, the reference in tests). One conformance suite
runs on all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import DataError, NotFoundError

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingVersion:
    """One embedding space and where it is indexed.

    A request takes this record once and uses it throughout, so that the vector a model
    made and the collection it is compared with cannot disagree.
    """

    version: str
    """Names the space; the same string as the encoder's ``embedding_version``."""
    collection: str
    """Collection that holds the items' vectors."""
    dim: int
    count: int
    """Vectors in the collection when it was published."""


def publish_embedding_version(folder: Path, record: EmbeddingVersion) -> None:
    """Makes an embedding version live, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    pending = folder / f"live.json.{os.getpid()}"
    pending.write_text(json.dumps(asdict(record)))
    pending.replace(folder / "live.json")


def live_embedding_version(folder: Path) -> EmbeddingVersion:
    """The live record.

    Raises:
        NotFoundError: nothing is indexed.
        DataError: the record is damaged.
    """
    file = folder / "live.json"
    if not file.is_file():
        raise NotFoundError(f"no embedding version in {folder}; run: recmesh index")
    try:
        return EmbeddingVersion(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}); run: recmesh index") from error


@dataclass(frozen=True, slots=True)
class IndexedItem:
    """One row of a collection."""

    item_id: str
    vector: Float32
    """Unit length, float32 ``[dim]``."""
    text: str
    """What BM25 reads."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Distinct items, best first, with scores that do not increase."""

    item_ids: list[str]
    scores: Float32


class VectorIndex(Protocol):
    """Collections of items that are found by vector, by words, or by both.

    All calls raise :class:`~recmesh.storage.errors.UnavailableError` when the index
    cannot be reached, :class:`~recmesh.storage.errors.DeadlineError` when ``timeout_s``
    passes, and :class:`~recmesh.storage.errors.NotFoundError` for an unknown collection.
    An adapter belongs to the event loop it was made in.
    """

    async def create(self, collection: str, dim: int) -> None:
        """Makes an empty collection; replaces one of the same name."""

    async def upsert(self, collection: str, items: Sequence[IndexedItem]) -> None:
        """Adds or replaces rows. Found by searches once the call returns."""

    async def delete(self, collection: str, item_ids: Sequence[str]) -> None:
        """Removes rows; unknown ids are not errors."""

    async def count(self, collection: str) -> int:
        """Rows in the collection."""

    async def search(
        self, collection: str, vector: Float32, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """Nearest items by cosine similarity, in [-1, 1]."""

    async def search_hybrid(
        self, collection: str, vector: Float32, text: str, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """Best items by vector and BM25 together, fused by reciprocal rank."""

    async def drop(self, collection: str) -> None:
        """Removes a collection; an unknown one is not an error."""

    async def close(self) -> None:
        """Lets go of connections."""
