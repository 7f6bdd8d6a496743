"""Everything that a period's pages are judged by, worked out once for all systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from scipy import sparse

from recmesh.models.interactions import SECONDS_PER_DAY
from recmesh.models.model import Int64
from recmesh.offline.evaluation.baselines import popularity
from recmesh.offline.evaluation.item_properties import (
    catalogue_rows,
    item_likeness,
    item_topics,
    share_of_users,
)
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.metrics import exposure as shared_out
from recmesh.offline.metrics import popularity as popular
from recmesh.offline.metrics import relevance
from recmesh.offline.metrics.calibration import miscalibration_bits
from recmesh.offline.metrics.diversity import ItemLikeness
from recmesh.offline.metrics.novelty import self_information_bits, serendipity
from recmesh.offline.metrics.pages import page_mean, slot_mean
from recmesh.offline.metrics.relevance import Bool, Float64
from recmesh.offline.tuning.sponsorship import paid_value
from recmesh.orchestrator.catalog import Catalog, item_catalog, name_codes
from recmesh.orchestrator.objectives.freshness import freshness
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput

Statistic = Callable[[Float64], Float64]
"""Of sums over users ``[..., columns]``: ``[...]``."""


@dataclass(frozen=True)
class Pooled:
    """A metric of all pages together: a statistic of columns that are summed over users."""

    columns: sparse.csr_matrix
    """``[users, columns]``"""
    statistic: Statistic
    least: float = 0.0
    """Lowest possible value."""
    most: float = 1.0
    """Highest possible value."""

    def of(self, users: Bool) -> Pooled:
        """Of these users ``[users]`` alone."""
        return replace(self, columns=self.columns[users])


@dataclass(frozen=True)
class JudgedPages:
    """One system's pages, judged."""

    best: Int64
    """Catalogue positions ``[users, k]``; -1 is an empty slot."""
    by_user: Mapping[str, Float64]
    """Metric to values ``[users]``; NaN where it is undefined."""
    pooled: Mapping[str, Pooled]
    exposure: sparse.csr_matrix
    """Attention that items have from users ``[users, catalogue]``."""


def relevance_of(best: Int64, wanted: sparse.csr_matrix) -> dict[str, Float64]:
    """The relevance metrics of pages ``[users, k]`` for what users wanted, by user."""
    hits, n_wanted = hits_of(best, wanted), wanted_counts(wanted)
    return {
        "ndcg": relevance.ndcg(hits, n_wanted),
        "recall": relevance.recall(hits, n_wanted),
        "mrr": relevance.reciprocal_rank(hits, n_wanted),
        "hit_rate": relevance.hit_rate(hits, n_wanted),
    }


class PageJudge:
    """Judges pages of a period's users.

    Metrics that the data say nothing on, as of dates or campaigns that there are none of, are NaN.
    """

    def __init__(self, period: Period, k: int, half_life_days: Mapping[str, float]) -> None:
        """Args: the period, the pages' length, and freshness' half-lives by content type."""
        self._period = period
        self.likeness: ItemLikeness = item_likeness(period)
        self._topics = item_topics(period)
        self._share = share_of_users(period)
        self._information = self_information_bits(self._share)
        self._groups = popular.popularity_groups(popularity(period).astype(np.float64))
        shape = (len(period.users), len(period.catalogue))
        scores = np.broadcast_to(popularity(period), shape)
        self._primitive = top_items(scores, period.seen, k)
        self._turned_to = np.asarray(period.history @ self._share).ravel()
        self._catalog = item_catalog(period.known)
        self._rows = catalogue_rows(period)
        self._fresh, self._age_days = _ages(self._catalog, self._rows, period, half_life_days)
        self._providers = _providers(period)

    def __call__(self, best: Int64) -> JudgedPages:
        """Judges the pages ``best`` of :func:`~recmesh.offline.evaluation.ranking.top_items`."""
        period, shown = self._period, best >= 0
        places = np.maximum(best, 0)
        hits, n_wanted = hits_of(best, period.wanted), wanted_counts(period.wanted)
        exposures = shared_out.exposure(best, len(self._share))
        pages = sparse.csr_matrix(exposures > 0, dtype=np.float64)
        age = self._age_days[places]
        mean_share = page_mean(self._share[places], shown)
        by_user = relevance_of(best, period.wanted) | {
            "ndcg_new_as_misses": relevance.ndcg(hits, n_wanted + period.wanted_new),
            "diversity": self.likeness.diversity(best),
            "novelty": page_mean(self._information[places], shown),
            "serendipity": serendipity(hits, best, self._primitive),
            "miscalibration": miscalibration_bits(period.history, pages, self._topics),
            "popularity": mean_share,
            "popularity_deviation": popular.popularity_deviation(
                period.history, pages, self._groups
            ),
            "freshness": page_mean(self._fresh[places], shown),
            "age_days": page_mean(age, shown & np.isfinite(age)),
        }
        return JudgedPages(
            best,
            by_user | self._campaigns(places, shown),
            self._pooled(exposures, mean_share),
            exposures,
        )

    def _campaigns(self, places: Int64, shown: Bool) -> dict[str, Float64]:
        if not len(self._period.known.campaigns):
            nothing = np.full(len(places), np.nan)
            return {"sponsorable": nothing, "delivery": nothing}
        of_all = paid_value(self._period, self._catalog, self._rows.astype(np.int32))
        worth = np.take_along_axis(of_all, places, axis=1).astype(np.float64)
        return {
            "sponsorable": slot_mean((worth > 0).astype(np.float64), shown),
            "delivery": slot_mean(worth, shown),
        }

    def _pooled(self, exposures: sparse.csr_matrix, mean_share: Float64) -> dict[str, Pooled]:
        sizes = np.diff(self._period.history.indptr)
        own = self._turned_to / np.maximum(sizes, 1)
        known = (sizes > 0)[:, None]
        both = sparse.csr_matrix(np.stack([np.nan_to_num(mean_share), own], axis=1) * known)
        found = {
            "coverage": Pooled(exposures, shared_out.coverage),
            "exposure_gini": Pooled(exposures, shared_out.gini),
            "popularity_lift": Pooled(both, _lift, -1.0, np.inf),
        }
        for provider, incidence in self._providers.items():
            merit = self._period.wanted.astype(np.float64) @ incidence
            columns = sparse.csr_matrix(sparse.hstack([exposures @ incidence, merit]))
            found[f"{provider}_inequity"] = Pooled(columns, _inequity)
        return found


def _lift(sums: Float64) -> Float64:
    known = sums[..., 1] > 0
    return np.where(known, popular.lift(sums[..., 0], np.where(known, sums[..., 1], 1)), np.nan)


def _inequity(sums: Float64) -> Float64:
    providers = sums.shape[-1] // 2
    return shared_out.inequity(sums[..., :providers], sums[..., providers:])


def _ages(
    catalog: Catalog, rows: Int64, period: Period, half_life_days: Mapping[str, float]
) -> tuple[Float64, Float64]:
    """Freshness and age of the catalogue's items ``[catalogue]``; NaN where no date is known."""
    nothing = np.zeros(len(rows), np.float32)
    fresh = freshness(
        ObjectiveInput(
            catalog=catalog,
            rows=rows.astype(np.int32),
            relevance=nothing,
            affinity=nothing,
            campaign_worth=nothing,
            now_unix_s=period.now_unix_s,
            half_life_days=half_life_days,
        )
    ).astype(np.float64)
    published = catalog.published_unix_s[rows]
    age = np.maximum(period.now_unix_s - published, 0) / SECONDS_PER_DAY
    age = np.where(published > 0, age, np.nan)
    return (fresh if np.isfinite(age).any() else np.full(len(rows), np.nan)), age


def _providers(period: Period) -> dict[str, sparse.csr_matrix]:
    """By kind of provider, whose item each is, as ones ``[catalogue, providers]``."""
    items, rows = period.known.items, catalogue_rows(period)
    sponsors = pa.chunked_array([pa.array([[s] for s in items["sponsor"].to_pylist()])])
    found = {}
    for kind, names in (("author", items["authors"]), ("sponsor", sponsors)):
        codes = name_codes(names)[rows]
        has_one = np.flatnonzero(codes)
        distinct, columns = np.unique(codes[has_one], return_inverse=True)
        ones = np.ones(len(has_one))
        shape = (len(rows), len(distinct))
        found[kind] = sparse.csr_matrix((ones, (has_one, columns)), shape=shape)
    return found
