"""What a page is worth, user by user. Adding a metric is a function and an entry.

All are means over a user's page, in [0, 1], the larger the better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from recmesh.offline.tuning.candidates import Bool, Candidates, Float64, Int64

Values = Float64
"""``[users]``"""


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages that a trial filled."""

    candidates: Candidates
    chosen: Int64
    """Positions ``[users, slots]``; -1 is an empty slot."""
    freshness: Float64
    """At the policy's own half-lives, whatever the trial blends ``[users, width]``."""
    paid: Bool
    """Whether a slot for the candidate is sponsored ``[users, width]``."""

    def of(self, values: Float64) -> Float64:
        """The chosen candidates' values ``[users, slots]``; 0 in empty slots."""
        users = np.arange(len(self.chosen))[:, None]
        found: Float64 = np.where(self.chosen >= 0, values[users, self.chosen], 0.0)
        return found

    def mean(self, values: Float64) -> Values:
        """Mean over the filled slots ``[users]``."""
        filled = np.maximum((self.chosen >= 0).sum(axis=1), 1)
        return np.asarray(self.of(values).sum(axis=1) / filled)


def ndcg(pages: Pages) -> Values:
    """Binary gains, discount 1 / log₂(1 + rank) (Järvelin & Kekäläinen 2002)."""
    slots = pages.chosen.shape[1]
    discounts = 1.0 / np.log2(np.arange(2, slots + 2))
    gains = pages.of(pages.candidates.wanted.astype(np.float64)) @ discounts
    ideals = np.concatenate([[0.0], np.cumsum(discounts)])
    return np.asarray(gains / ideals[np.minimum(pages.candidates.n_wanted, slots)])


def diversity(pages: Pages) -> Values:
    """Mean distance of a page's pairs: 1 - Jaccard's index of their topics (Smyth & McClave
    2001)."""
    users = np.arange(len(pages.chosen))[:, None, None]
    shown = pages.chosen >= 0
    near = pages.candidates.similarity[users, pages.chosen[:, :, None], pages.chosen[:, None, :]]
    pairs = shown[:, :, None] & shown[:, None, :] & ~np.eye(pages.chosen.shape[1], dtype=bool)
    count = pairs.sum(axis=(1, 2))
    distance = ((1.0 - near.astype(np.float64)) * pairs).sum(axis=(1, 2))
    return np.asarray(distance / np.maximum(count, 1))


def novelty(pages: Pages) -> Values:
    """Mean self-information of popularity, as the objective of that name has it."""
    catalog, rows = pages.candidates.catalog, pages.candidates.rows
    return pages.mean(catalog.novelty[np.maximum(rows, 0)].astype(np.float64))


def freshness(pages: Pages) -> Values:
    """Mean freshness at the policy's half-lives."""
    return pages.mean(pages.freshness)


def delivery(pages: Pages) -> Values:
    """Worth of the sponsored slots, over all slots of the page."""
    paid = np.where(pages.paid, pages.candidates.paid, 0.0)
    return np.asarray(pages.of(paid).sum(axis=1) / pages.chosen.shape[1])


METRICS: Mapping[str, Callable[[Pages], Values]] = {
    "ndcg": ndcg,
    "diversity": diversity,
    "novelty": novelty,
    "freshness": freshness,
    "delivery": delivery,
}
"""Metric id to its function."""
