"""Ways to rank a collection for a query: the baselines, and what RecMesh serves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recmesh.models.model import Float32, Int64
from recmesh.offline.search.legs import Legs
from recmesh.orchestrator.relevance_feedback import FeedbackSettings, moved_query
from recmesh.orchestrator.search_fusion import FusionMethod, FusionSettings, fuse

DEPTH = 200
"""Candidates that each leg contributes online."""

System = Callable[[Legs], Float32]
"""Scores ``[items]``; NaN for items that are not found."""


def words(legs: Legs) -> Float32:
    """BM25 alone."""
    return legs.words


def dense(legs: Legs) -> Float32:
    """Cosine alone."""
    return legs.dense


def z_scores(legs: Legs) -> Float32:
    """Sum of z-scores over the whole collection."""
    return fuse(legs.dense, legs.words)


def reciprocal_ranks(legs: Legs) -> Float32:
    """Reciprocal rank fusion (60)."""
    return fuse(legs.dense, legs.words, FusionSettings(FusionMethod.RECIPROCAL_RANK))


def _candidates(*legs: Float32) -> Int64:
    found = [np.argsort(-np.nan_to_num(leg, nan=-np.inf), kind="stable")[:DEPTH] for leg in legs]
    rows = [best[~np.isnan(leg[best])] for best, leg in zip(found, legs, strict=True)]
    return np.unique(np.concatenate(rows))


def _searched(
    legs: Legs,
    words_leg: Float32,
    earlier: Float32 | None,
    fusion: FusionSettings | None,
    feedback: FeedbackSettings | None,
) -> Float32:
    found = [words_leg] if earlier is None else [words_leg, earlier]

    def fused(near: Float32) -> tuple[Int64, Float32]:
        rows = _candidates(near, *found)
        log = None if earlier is None else earlier[rows]
        return rows, fuse(near[rows], words_leg[rows], fusion, log)

    rows, scores = fused(legs.dense)
    moved = moved_query(legs.query, legs.vectors[rows], scores, feedback)
    rows, scores = fused(legs.vectors @ moved)
    ranking = np.full(len(legs.dense), np.nan, np.float32)
    ranking[rows] = scores
    return ranking


def without_log(
    legs: Legs, fusion: FusionSettings | None = None, feedback: FeedbackSettings | None = None
) -> Float32:
    """Meaning and words, candidates as online, with relevance feedback."""
    return _searched(legs, legs.words, None, fusion, feedback)


def with_log(
    legs: Legs, fusion: FusionSettings | None = None, feedback: FeedbackSettings | None = None
) -> Float32:
    """The same, and what earlier queries led to: as words of the items, and as a leg."""
    return _searched(legs, legs.words_and_log, legs.earlier, fusion, feedback)
