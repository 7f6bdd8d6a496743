"""What a page is worth, user by user. Adding a metric is a function and an entry.

All are means over a user's page, in [0, 1], the larger the better, by the definitions that
evaluation shares (:mod:`recmesh.offline.metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from recmesh.offline.metrics import relevance
from recmesh.offline.metrics.diversity import mean_pair_distance
from recmesh.offline.metrics.pages import page_mean, slot_mean
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
        """Mean over the filled slots ``[users]``; 0 of an empty page."""
        return np.nan_to_num(page_mean(self.of(values), self.chosen >= 0))


def ndcg(pages: Pages) -> Values:
    """Of the wanted items, candidates or not."""
    hits = pages.of(pages.candidates.wanted.astype(np.float64)) > 0
    return relevance.ndcg(hits, pages.candidates.n_wanted)


def diversity(pages: Pages) -> Values:
    """Mean over a page's pairs of 1 - Jaccard's index of their topics; 0 without a pair."""
    users = np.arange(len(pages.chosen))[:, None, None]
    near = pages.candidates.similarity[users, pages.chosen[:, :, None], pages.chosen[:, None, :]]
    return np.nan_to_num(mean_pair_distance(near, pages.chosen >= 0))


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
    return slot_mean(pages.of(paid), pages.chosen >= 0)


METRICS: Mapping[str, Callable[[Pages], Values]] = {
    "ndcg": ndcg,
    "diversity": diversity,
    "novelty": novelty,
    "freshness": freshness,
    "delivery": delivery,
}
"""Metric id to its function."""
