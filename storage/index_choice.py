"""Which kind of vector index holds a collection, and how hard a search looks in it.

The one place that decides; ``docs/scaling.md`` has the measurement and the reasoning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EXACT_BELOW_ROWS = 50_000
"""A scan of so many rows is as fast as a graph, needs no building and misses nothing."""
MEMORY_BELOW_ROWS = 5_000_000
"""More rows than these want a graph on disk."""


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """A kind of index and how it is built."""

    index_type: str
    """Milvus' name of it."""
    parameters: dict[str, Any]


def index_for(rows: int, *, embedded: bool) -> IndexChoice:
    """The index of a collection that will hold ``rows`` vectors.

    Args:
        rows: expected at its fullest; 0: unknown, taken as few.
        embedded: whether Milvus is the embedded one. Beside FLAT it offers IVF_FLAT, which
            looks into some of its lists only.
    """
    if embedded or rows < EXACT_BELOW_ROWS:
        return IndexChoice("FLAT", {})
    if rows < MEMORY_BELOW_ROWS:
        return IndexChoice("HNSW", {"M": 24, "efConstruction": 200})
    return IndexChoice("DISKANN", {})


def search_parameters(index_type: str, limit: int) -> dict[str, Any]:
    """How hard to look for the best ``limit`` rows.

    A graph keeps a list of candidates while it searches: at least ``limit`` long, and the
    longer the fewer it misses.
    """
    if index_type == "HNSW":
        return {"ef": max(2 * limit, 128)}
    if index_type == "DISKANN":
        return {"search_list": max(2 * limit, 128)}
    return {}
