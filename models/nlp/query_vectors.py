"""Vectors of the queries asked last: people ask the same things, and one page asks twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from recmesh.models.model import Float32


class QueryVectors:
    """Embeds queries that it does not know, those of one call together. Thread-safe."""

    def __init__(self, encode: Callable[[Sequence[str]], Float32], kept: int) -> None:
        """``encode`` makes vectors ``[n, dim]``; the ``kept`` queries used last stay."""
        self._encode = encode
        self._kept = kept
        self._vectors: OrderedDict[str, Float32] = OrderedDict()
        self._lock = threading.Lock()

    def one(self, query: str) -> Float32:
        """Unit vector ``[dim]``; read-only, for it is shared by all callers."""
        return self._found([query])[query]

    def many(self, queries: Sequence[str]) -> Float32:
        """Unit vectors ``[len(queries), dim]``."""
        found = self._found(queries)
        return np.stack([found[query] for query in queries])

    def _found(self, queries: Sequence[str]) -> dict[str, Float32]:
        found: dict[str, Float32] = {}
        with self._lock:
            for query in queries:
                if query in self._vectors:
                    self._vectors.move_to_end(query)
                    found[query] = self._vectors[query]
        new = list(dict.fromkeys(query for query in queries if query not in found))
        if new:
            vectors = self._encode(new)
            vectors.setflags(write=False)
            found.update(zip(new, vectors, strict=True))
            with self._lock:
                # Copies: a row would keep all vectors of its call.
                self._vectors.update((query, _fixed(found[query])) for query in new)
                while len(self._vectors) > self._kept:
                    self._vectors.popitem(last=False)
        return found


def _fixed(vector: Float32) -> Float32:
    copy = vector.copy()
    copy.setflags(write=False)
    return copy
