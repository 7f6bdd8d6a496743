"""Calibrated recommendations (Steck 2018): pages as varied as the user's interests."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float32, Float64, Int32, TopicSets

SMOOTHING = 0.01
"""Share of the interests mixed into the page's distribution, so that divergence is finite."""

NEARNESS = 0.6
"""Where a bound's first tangent touches, from the page's distribution (0) to the interests (1).
At a page that lacks a topic, tangents are steep and bounds bad."""


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
        # Candidates have few of the topics: only those move the logarithms.
        self._of, self._topic = np.nonzero(self._share)
        self._each = (1 - SMOOTHING) * self._share[self._of, self._topic]
        self._interest_of = self._interest[self._topic]
        self._counts = np.zeros(len(columns))
        self._taken = 0

    def _mixed(self, counts: Float64, n: int) -> Float64:
        return np.asarray((1 - SMOOTHING) / n * counts + SMOOTHING * self._interest)

    @property
    def divergence(self) -> float:
        """Of the selected, times how many they are."""
        if not self._taken:
            return 0.0
        logs = np.log(self._mixed(self._counts, self._taken))
        return self._taken * (self._entropy - float(logs @ self._interest))

    def cost(self) -> Float64:
        """What each candidate adds to divergence times length ``[n]``, up to a constant."""
        n = self._taken + 1
        without = self._mixed(self._counts, n)
        log_gains = np.log1p(self._each / (n * without[self._topic]))
        nearer = np.bincount(self._of, self._interest_of * log_gains, minlength=len(self._share))
        return np.asarray(-n * nearer)

    def take(self, i: int) -> None:
        """Candidate ``i`` is selected."""
        self._counts += self._share[i]
        self._taken += 1

    def between(self) -> Float64:
        """A distribution between this page's and the user's interests."""
        own = self._counts / max(self._taken, 1)
        return np.asarray(NEARNESS * self._interest + (1 - NEARNESS) * own)

    def of(self, items: Int32) -> Float64:
        """The distribution of a page with these items, as long as this one."""
        return np.asarray(self._share[items].sum(axis=0) / max(self._taken, 1))

    def least_cost(self, at: Float64) -> tuple[float, Float64]:
        """A lower bound, linear in the items, for all pages as long as this one.

        Divergence is convex in the page's distribution, so it lies above its tangents.

        Args:
            at: the distribution at which the tangent touches.

        Returns:
            A constant, and what each candidate adds to it ``[n]``.
        """
        mixed = self._mixed(at, 1)
        slope = (1 - SMOOTHING) * self._interest / mixed
        touching = self._entropy - float(np.log(mixed) @ self._interest)
        return self._taken * (touching + float(slope @ at)), -self._share @ slope
