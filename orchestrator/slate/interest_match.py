"""Calibrated recommendations (Steck 2018): pages as varied as the user's interests."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float32, Float64, TopicSets

SMOOTHING = 0.01
"""Share of the interests mixed into the page's distribution, so that divergence is finite."""

TANGENTS = (0.0, 0.25)
"""Where bounds touch, see :meth:`InterestMatch.least_cost`. At a page that lacks a topic the
tangent is steep and its bound bad; a little towards the interests it is good."""


class InterestMatch:
    """KL divergence of the page's topics from the user's interests, times the page's length.

    Interests are taken among the topics that candidates have. An item counts for its topics
    in equal shares.
    """

    def __init__(self, interests: Float32, topics: TopicSets) -> None:
        """``interests`` ``[n_topic_bits]`` are ≥ 0."""
        wanted = interests[topics.bit].astype(np.float64)
        columns = np.flatnonzero(wanted > 0)
        self._interest = wanted[columns] / max(float(wanted.sum()), np.finfo(float).tiny)
        self._entropy = float(self._interest @ np.log(self._interest))
        self._share = topics.has[:, columns] / np.maximum(topics.size, 1)[:, None].astype(float)
        self._counts = np.zeros(len(columns))
        self._taken = 0
        self.divergence = 0.0
        """Of the selected, times how many they are."""

    def _mixed(self, counts: Float64, n: int) -> Float64:
        return np.asarray(
            (1 - SMOOTHING) / n * counts + SMOOTHING * self._interest, dtype=np.float64
        )

    def cost(self) -> Float64:
        """What each candidate adds to divergence times length ``[n]``; may be negative."""
        n = self._taken + 1
        logs = np.log(self._mixed(self._counts + self._share, n))
        return np.asarray(n * (self._entropy - logs @ self._interest) - self.divergence)

    def take(self, i: int) -> None:
        """Candidate ``i`` is selected."""
        self._counts += self._share[i]
        self._taken += 1
        logs = np.log(self._mixed(self._counts, self._taken))
        self.divergence = self._taken * (self._entropy - float(logs @ self._interest))

    def least_cost(self, nearness: float) -> tuple[float, Float64]:
        """A lower bound, linear in the items, for all pages as long as this one.

        Divergence is convex in the page's distribution, so it lies above its tangents.

        Args:
            nearness: where the tangent touches, from this page's distribution (0) to the
                user's interests (1).

        Returns:
            A constant, and what each candidate adds to it ``[n]``.
        """
        if not self._taken:
            return 0.0, np.zeros(len(self._share))
        at = (1 - nearness) * self._counts / self._taken + nearness * self._interest
        mixed = self._mixed(at, 1)
        slope = (1 - SMOOTHING) * self._interest / mixed
        touching = self._entropy - float(np.log(mixed) @ self._interest)
        return self._taken * (touching + float(slope @ at)), -self._share @ slope
