"""The item vectors of the language model: those of its artifact, and those appended since."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recmesh.models.model import Float32
from recmesh.storage.appended_vectors import AppendedVectors

LOOK_EVERY_S = 0.25
SPARE = 1024


class ItemVectors:
    """Vectors by item id. Thread-safe; what a caller was given never changes."""

    def __init__(
        self,
        item_ids: Sequence[str],
        vectors: Float32,
        appended: Path | None,
        embedding_version: str,
    ) -> None:
        """``vectors`` ``[len(item_ids), dim]``; ``appended`` None: there are no others."""
        self._appended = AppendedVectors(appended, embedding_version) if appended else None
        self._lock = threading.Lock()
        self._looked_s = -LOOK_EVERY_S
        self._used = len(item_ids)
        row_of: Mapping[str, int] = {item_id: row for row, item_id in enumerate(item_ids)}
        self._current = row_of, vectors

    def current(self) -> tuple[Mapping[str, int], Float32]:
        """Row of every item, and the vectors ``[n, dim]``; not every row is an item's."""
        now_s = time.monotonic()
        if (
            self._appended is not None
            and now_s - self._looked_s >= LOOK_EVERY_S
            and self._lock.acquire(blocking=False)
        ):
            try:
                self._looked_s = now_s
                self._take(self._appended.news())
            finally:
                self._lock.release()
        return self._current

    def _take(self, news: Mapping[str, Float32]) -> None:
        if not news:
            return
        row_of, vectors = self._current
        rows = np.arange(self._used, self._used + len(news))
        if rows[-1] >= len(vectors):
            grown = np.zeros((rows[-1] + 1 + max(SPARE, len(vectors) // 4), vectors.shape[1]))
            grown = grown.astype(np.float32)
            grown[: self._used] = vectors[: self._used]
            vectors = grown
        # Rows beyond those in use: nobody reads them yet.
        vectors[rows] = np.stack(list(news.values()))
        self._used += len(news)
        self._current = {**row_of, **dict(zip(news, rows.tolist(), strict=True))}, vectors
