"""What helped those who asked something alike: earlier queries and the items they led to.

A search log says which items answer a topic whatever words they use. A query borrows the items
of the earlier queries nearest to it in meaning (nearest neighbours over queries, as in Baeza-Yates
et al. 2004; clicks as a random walk's single step, Craswell & Szummer 2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.models.model import Float32, Int64

NEIGHBOURS = 100
SHARPNESS = 8.0
"""Power of the cosine: at 8, a query at cosine 0.9 counts eight times one at 0.7."""


@dataclass(frozen=True)
class EarlierQueries:
    """A query log, in rows: query ``i`` led to ``items[starts[i]:starts[i + 1]]``."""

    vectors: Float32
    """Unit vectors ``[queries, dim]``."""
    starts: Int64
    """``[queries + 1]``."""
    items: Int64
    """Positions of items in the caller's catalogue ``[links]``."""
    weights: Float32
    """Of each link ``[links]``, above 0; each query's sum to the square root of their sum."""

    @classmethod
    def of(cls, vectors: Float32, links: Sequence[Mapping[int, float]]) -> EarlierQueries:
        """From each query's vector and its items' weights: grades, or counts of clicks.

        A query's weights are divided by the square root of their sum: one that led to very
        many items says less about each, but is not drowned out.
        """
        sizes = [len(link) for link in links]
        weights = [
            weight / np.sqrt(sum(link.values())) for link in links for weight in link.values()
        ]
        return cls(
            vectors,
            np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            np.array([item for link in links for item in link], np.int64),
            np.array(weights, np.float32),
        )

    def scores(
        self,
        query: Float32,
        n_items: int,
        neighbours: int = NEIGHBOURS,
        sharpness: float = SHARPNESS,
    ) -> Float32:
        """What the nearest earlier queries say of each item.

        Args:
            query: unit vector ``[dim]``.
            n_items: length of the catalogue that ``items`` counts in.
            neighbours: nearest earlier queries that are asked.
            sharpness: power of their cosines; defaults as chosen (``docs/search.md``).

        Returns:
            ``[n_items]``, at least 0; NaN for items that no near query led to.
        """
        cosines = np.maximum(self.vectors @ query, 0.0)
        nearest = np.argsort(-cosines, kind="stable")[:neighbours]
        total = np.zeros(n_items)
        for row in nearest:
            links = slice(self.starts[row], self.starts[row + 1])
            # A query names an item once, so plain addition is enough.
            total[self.items[links]] += cosines[row] ** sharpness * self.weights[links]
        # The root keeps an item that many queries share from dwarfing the other legs.
        return np.where(total > 0.0, np.sqrt(total), np.nan).astype(np.float32)

    def best(self, query: Float32, n_items: int, limit: int) -> tuple[Int64, Float32]:
        """Positions and :meth:`scores` of the best items, at most ``limit``, best first."""
        scores = self.scores(query, n_items)
        found = np.flatnonzero(~np.isnan(scores))
        order = found[np.argsort(-scores[found], kind="stable")[:limit]]
        return order, scores[order]
