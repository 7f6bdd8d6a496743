"""Determinantal point process: greedy MAP (Chen, Zhang & Zhou 2018).

With the quality-diversity kernel, log det of a slate is the sum of its items' log qualities
plus log det K, K their similarities (Kulesza & Taskar 2012). Qualities are exponential in
utility, so an item is worth its utility and costs -log of the variance of its row of K that
the items selected before do not explain.
"""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float64, TopicSets

SAME_TOPICS = 0.8
"""Similarity of items with the same topics. Below 1, because they are not the same item; it
keeps K away from singular, and makes the second item of a topic cost about as much as MMR's."""


class Dpp:
    """An item costs what it adds to -log det of the selected items' similarities."""

    def __init__(self, topics: TopicSets, capacity: int) -> None:
        """``capacity`` is the most items that will be taken."""
        n = len(topics.size)
        self._topics = topics
        self._rows = np.empty((capacity, n))
        """Of the Cholesky factor of K."""
        self._taken = 0
        self._unexplained = np.ones(n)
        self.cost: Float64 = np.zeros(n)
        """Of selecting each candidate next ``[n]``, ≥ 0; never falls."""

    def take(self, i: int) -> None:
        """Candidate ``i`` is selected."""
        row = SAME_TOPICS * self._topics.similarity(i)
        row[i] = 1.0
        before = self._rows[: self._taken]
        row = (row - before[:, i] @ before) / np.sqrt(self._unexplained[i])
        self._rows[self._taken] = row
        self._taken += 1
        self._unexplained -= row * row
        # K's smallest eigenvalue; less is a rounding error, or the taken item itself.
        np.maximum(self._unexplained, 1.0 - SAME_TOPICS, out=self._unexplained)
        self.cost = -np.log(self._unexplained)

    @staticmethod
    def least_cost(similarity: Float64, others: Float64) -> Float64:
        """The least that an item costs, elementwise.

        Where similarity is 1, all have the same topics, and the cost is exact if nothing
        else is selected; otherwise only one of the others is counted.

        Args:
            similarity: at least so much with each of the others, and they with each other.
            others: how many are selected, from 0.
        """
        alike = SAME_TOPICS * similarity
        counted = np.where(similarity == 1.0, others, np.minimum(others, 1))
        explained = alike**2 * counted / (1.0 + np.maximum(counted - 1, 0) * alike)
        return np.asarray(-np.log(1.0 - explained), np.float64)
