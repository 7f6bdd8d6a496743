"""One score from several: how near a text is in meaning, how well its words match, and
whether it helped those who asked alike before.

Cosines, BM25 and counts have scales of their own, so each leg is brought to a common one first.
Pure NumPy: the same function serves requests and tunes its settings offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import ConfigurationError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class FusionMethod(StrEnum):
    """How legs are brought to a common scale."""

    Z_SCORE = "z-score"
    """Distance from the leg's mean in standard deviations, over the candidates."""
    RECIPROCAL_RANK = "reciprocal-rank"
    """1 / (constant + rank), after Cormack, Clarke and Büttcher (2009)."""


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How the legs are fused.

    Raises:
        ConfigurationError: a setting is out of its range.
    """

    method: FusionMethod = FusionMethod.Z_SCORE
    words_weight: float = 0.5
    """Share of the words, in [0, 1]; meaning has the rest."""
    earlier_weight: float = 0.5
    """What earlier queries add, where the caller has them; at least 0."""
    rank_constant: float = 60.0
    """Above 0. The larger, the less the first ranks stand out."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.words_weight <= 1.0:
            raise ConfigurationError(f"words_weight is {self.words_weight}; it lies in [0, 1]")
        if not 0.0 <= self.earlier_weight < float("inf"):
            raise ConfigurationError(f"earlier_weight is {self.earlier_weight}; it is at least 0")
        if not 0.0 < self.rank_constant < float("inf"):
            raise ConfigurationError(f"rank_constant is {self.rank_constant}; it is above 0")


def _z_scores(scores: Float64) -> Float64:
    # Summed in order of size: the result cannot depend on the order of the candidates.
    ordered = np.sort(scores)
    spread = float(ordered.std())
    # A spread of rounding errors is none.
    if spread <= 1e-12 * max(1.0, float(np.abs(ordered).max(initial=0.0))):
        return np.zeros(len(scores))
    return np.asarray((scores - ordered.mean()) / spread, np.float64)


def _reciprocal_ranks(scores: Float64, constant: float) -> Float64:
    """0 for NaN; equal scores share the better rank."""
    found = np.sort(scores[~np.isnan(scores)])
    better = len(found) - np.searchsorted(found, scores, side="right")
    return np.where(np.isnan(scores), 0.0, 1.0 / (constant + 1.0 + better))


def fuse(
    dense: Float32,
    words: Float32,
    settings: FusionSettings | None = None,
    earlier: Float32 | None = None,
) -> Float32:
    """Fuses the legs' scores of the same candidates.

    A candidate that is at least as good as another in all legs fuses to at least its
    score; the order of the candidates does not matter.

    Args:
        dense: cosines ``[n]``; NaN for candidates that the dense leg has not found, which
            then count as its worst found.
        words: BM25 scores ``[n]``, at least 0; NaN for candidates that the words have not
            found, which then count as 0: BM25's score of a text without a word of the query.
        settings: method and weights; default: equal z-scores.
        earlier: scores of :mod:`recmesh.models.nlp.earlier_queries` ``[n]``, at least 0; NaN
            counts as 0. None: there is no query log.

    Returns:
        Scores ``[n]``, finite; comparable within one call only.
    """
    if len(dense) == 0:
        return np.empty(0, np.float32)
    chosen = settings or FusionSettings()
    near, worded = dense.astype(np.float64), words.astype(np.float64)
    worst = float(np.nanmin(near)) if not np.isnan(near).all() else 0.0
    weight = chosen.words_weight
    fused = (1.0 - weight) * _scaled(near, worst, chosen) + weight * _scaled(worded, 0.0, chosen)
    if earlier is not None:
        fused += chosen.earlier_weight * _scaled(earlier.astype(np.float64), 0.0, chosen)
    return np.asarray(fused, np.float32)


def share_of_best(scores: Float32) -> Float32:
    """Fused scores ``[n]`` as shares of the way from the worst, 0, to the best, 1.

    One scale for all queries that keeps how far ahead the best are. All are 1 when they are
    equal.
    """
    if not len(scores):
        return scores
    worst, best = float(scores.min()), float(scores.max())
    if best - worst <= 1e-9:
        return np.ones(len(scores), np.float32)
    return np.asarray((scores - worst) / (best - worst), np.float32)


def _scaled(scores: Float64, unknown: float, settings: FusionSettings) -> Float64:
    if settings.method is FusionMethod.RECIPROCAL_RANK:
        return _reciprocal_ranks(scores, settings.rank_constant)
    return _z_scores(np.where(np.isnan(scores), unknown, scores))
