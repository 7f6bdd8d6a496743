"""Maximal marginal relevance (Carbonell & Goldstein 1998)."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float64, TopicSets


class Mmr:
    """An item costs its similarity with the nearest one selected before."""

    def __init__(self, topics: TopicSets, capacity: int) -> None:
        """``capacity`` is the most items that will be taken."""
        self._topics = topics
        self.cost: Float64 = np.zeros(len(topics.size))
        """Of selecting each candidate next ``[n]``, in [0, 1]; never falls."""

    def take(self, i: int) -> None:
        """Candidate ``i`` is selected."""
        np.maximum(self.cost, self._topics.similarity(i), out=self.cost)

    @staticmethod
    def least_cost(similarity: Float64, others: Float64) -> Float64:
        """The least that an item costs, elementwise.

        Args:
            similarity: at least so much with each of the others, and they with each other.
            others: how many are selected, from 0.
        """
        return np.where(others > 0, similarity, 0.0)
