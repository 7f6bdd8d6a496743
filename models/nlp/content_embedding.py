"""An item as vectors: what of its text is read, and how the parts become one.

The encoder reads 128 tokens at a time, about 80 words. Longer texts are read whole only in
passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from recmesh.models.model import Float32

PASSAGE_WORDS = 80


class ContentEmbedding(StrEnum):
    """What of an item is embedded. The ablation is `recmesh evaluate content`."""

    TITLE = "title"
    OPENING = "opening"
    """Title and text as one, as far as the encoder reads."""
    POOLED = "pooled"
    """Every passage under its title; one vector, their mean."""
    MAX_SIM = "max-sim"
    """Every passage under its title; the best of them answers for the item."""

    def texts(self, title: str, text: str) -> list[str]:
        """What is embedded of an item, at least one text."""
        if self is ContentEmbedding.TITLE or not text:
            return [title]
        if self is ContentEmbedding.OPENING:
            return [f"{title}. {text}"]
        words = text.split()
        room = max(PASSAGE_WORDS - len(title.split()), PASSAGE_WORDS // 2)
        return [
            f"{title}. {' '.join(words[start : start + room])}"
            for start in range(0, len(words), room)
        ] or [title]

    def cosines(self, queries: Float32, vectors: Float32, starts: Sequence[int]) -> Float32:
        """Each item's likeness to each query.

        Args:
            queries: unit vectors ``[queries, dim]``.
            vectors: unit vectors of all items' texts ``[texts, dim]``, an item's in a row.
            starts: position of each item's first text ``[items]``, ascending from 0.

        Returns:
            ``[queries, items]``
        """
        if self is ContentEmbedding.MAX_SIM:
            return np.asarray(np.maximum.reduceat(queries @ vectors.T, starts, axis=1), np.float32)
        sums = np.add.reduceat(vectors, starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(queries @ (sums / np.maximum(lengths, 1e-9)).T, np.float32)
