"""From model scores to one utility a candidate.

Calibrated scores → relevance (weighted over the models that have an opinion) →
objectives → weighted sum. Everything is vectorised over candidates, and a candidate's
utility depends on that candidate alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CAMPAIGN = "campaign"
"""The objective that speaks for sponsors."""

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoreMatrix:
    """What every scorer thinks of every candidate."""

    scorers: tuple[str, ...]
    values: Float32
    """Calibrated scores ``[n_candidates, n_scorers]``, in [0, 1]; 0 where masked out."""
    mask: Bool
    """Where there is an opinion ``[n_candidates, n_scorers]``."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Monotone piecewise linear map from raw scores to [0, 1]."""

    raw_scores: Float32
    probabilities: Float32

    def __call__(self, raw: Float32) -> Float32:
        """Calibrated values, same shape; NaN stays NaN.

        Raw scores beyond the knots take the end values.
        """
        return np.interp(raw, self.raw_scores, self.probabilities).astype(np.float32)


LOGISTIC_KNOTS = np.linspace(-6.0, 6.0, 25, dtype=np.float32)
UNCALIBRATED = Calibration(
    LOGISTIC_KNOTS, (1.0 / (1.0 + np.exp(-LOGISTIC_KNOTS))).astype(np.float32)
)
"""For models without a fitted calibration: their scores read as log-odds."""


def score_matrix(columns: Mapping[str, Float32], n_candidates: int) -> ScoreMatrix:
    """Joins columns of calibrated scores ``[n_candidates]``; NaN or infinite is no opinion."""
    scorers = tuple(columns)
    if not scorers:
        return ScoreMatrix(
            (), np.zeros((n_candidates, 0), np.float32), np.zeros((n_candidates, 0), bool)
        )
    values = np.stack([columns[s] for s in scorers], axis=1).astype(np.float32, copy=False)
    mask = np.isfinite(values)
    return ScoreMatrix(scorers, np.where(mask, np.clip(values, 0.0, 1.0), np.float32(0)), mask)


def relevance(matrix: ScoreMatrix, weights: Mapping[str, float]) -> Float32:
    """Weighted mean of the opinions there are ``[n_candidates]``, in [0, 1].

    A scorer that is missing, for one candidate or for all, leaves its weight to the
    others. A candidate nobody has an opinion on gets 0.
    """
    # In float64, relative to the largest: weights of any size keep their ratio.
    given = np.array([weights.get(s, 0.0) for s in matrix.scorers])
    weight = given / max(given.max(initial=0.0), np.finfo(float).tiny)
    total = matrix.mask @ weight
    summed = matrix.values @ weight
    mean: Float32 = np.zeros(len(summed), np.float32)
    np.divide(summed, total, out=mean, where=total > 0, casting="same_kind")
    return mean


def mixed_weights(
    policy: Mapping[str, float], preferences: Mapping[str, float]
) -> dict[str, float]:
    """The policy's objective weights with the caller's preferences mixed in, summing to 1.

    A preference replaces the policy's weight of that objective relative to the sum of the
    policy's weights.

    Returns:
        Weights by objective. The policy's own when preferences leave nothing above 0.
    """
    total = sum(policy.values())
    own = {name: weight / total for name, weight in policy.items()}
    mixed = {**own, **preferences}
    mixed_total = sum(mixed.values())
    if mixed_total <= 0:
        return own
    return {name: weight / mixed_total for name, weight in mixed.items()}


def organic_utility(
    blended: Float32, objectives: Mapping[str, Float32], weights: Mapping[str, float]
) -> Float32:
    """Utility to the user alone ``[n_candidates]``: without what campaigns are worth."""
    if not weights.get(CAMPAIGN):
        return blended
    return np.asarray(blended - weights[CAMPAIGN] * objectives[CAMPAIGN], np.float32)


def utility(objectives: Sequence[Float32], weights: Sequence[float]) -> Float32:
    """Weighted sum of objective columns ``[n_candidates]``; weights sum to 1.

    A candidate with a value that is not a number gets -inf, so it never takes a slot.
    """
    blended = np.zeros(len(objectives[0]) if objectives else 0, np.float32)
    for column, weight in zip(objectives, weights, strict=True):
        if weight > 0:
            blended = blended + column * np.float32(weight)
    return np.where(np.isnan(blended), -np.inf, blended).astype(np.float32)
