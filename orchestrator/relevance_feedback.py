"""Pseudo-relevance feedback: a query moves to what it found first (Rocchio 1971).

The items that meaning and words agree on say more of the topic than three words do. A second
search by meaning, with the moved query, finds what the first one could not name. After
Rocchio's method without negative examples; items weigh by a softmax of their fused scores, as
relevance models do (Lavrenko & Croft 2001), so a clear winner leads and a tie is shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import ConfigurationError

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """How far the query moves.

    Raises:
        ConfigurationError: a setting is out of its range.
    """

    items: int = 10
    """First items that are looked at; 0: no feedback."""
    weight: float = 1.0
    """Share of the items' mean against the query's 1; at least 0."""
    sharpness: float = 4.0
    """Of the softmax, per unit of fused score; 0: all items weigh the same."""

    def __post_init__(self) -> None:
        if self.items < 0 or self.weight < 0.0 or self.sharpness < 0.0:
            raise ConfigurationError(f"relevance feedback takes no negative setting: {self}")


def moved_query(
    query: Float32, vectors: Float32, scores: Float32, settings: FeedbackSettings | None = None
) -> Float32:
    """The query's vector, moved toward the items it found first.

    Args:
        query: unit vector ``[dim]``.
        vectors: unit vectors of found items ``[n, dim]``, in any order.
        scores: their fused scores ``[n]``, finite.
        settings: default: as chosen on NFCorpus' dev queries (``docs/search.md``).

    Returns:
        Unit vector ``[dim]``; the query itself when nothing was found.
    """
    chosen = settings or FeedbackSettings()
    first = np.argsort(-scores, kind="stable")[: chosen.items]
    if not len(first):
        return query
    likeness = np.exp(chosen.sharpness * (scores[first] - scores[first[0]]).astype(np.float64))
    mean = (likeness / likeness.sum()) @ vectors[first].astype(np.float64)
    length = float(np.linalg.norm(mean))
    if length <= 1e-9:
        return query
    moved = query.astype(np.float64) + chosen.weight * mean / length
    return np.asarray(moved / max(float(np.linalg.norm(moved)), 1e-9), np.float32)
