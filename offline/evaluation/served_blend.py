"""The blend as the mesh serves it: calibrated scores and popularity, weighted to relevance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period
from recmesh.orchestrator.blend import UNCALIBRATED, Calibration, relevance, score_matrix
from recmesh.orchestrator.catalog import log_scaled, recent_popularity
from recmesh.orchestrator.retrieval import POPULAR

USERS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ServedBlend:
    """Everything that turns raw scores into relevance."""

    weights: dict[str, float]
    """By scorer: the models and ``popular``; they sum to 1."""
    popularity_half_life_days: float
    calibrations: dict[str, Calibration]
    """By model; one without reads raw scores as log-odds, as the mesh does."""


def popular_scores(period: Period, half_life_days: float) -> Float32:
    """The orchestrator's popularity at the period's start ``[catalogue]``, in [0, 1]."""
    events = period.known.events
    return log_scaled(recent_popularity(events, period.catalogue, half_life_days))


def calibrated(raw: Float32, calibration: Calibration | None) -> Float32:
    """Raw scores as the mesh blends them, same shape; NaN stays NaN."""
    opinion = np.isfinite(raw)
    values = (calibration or UNCALIBRATED)(np.where(opinion, raw, np.float32(0)))
    return np.where(opinion, values, np.float32(np.nan))


def blended(raw: Mapping[str, Float32], period: Period, blend: ServedBlend) -> Float32:
    """Relevance ``[users, catalogue]``, in [0, 1].

    Args:
        raw: every model's scores ``[users, catalogue]``, NaN for no opinion.
        period: whose users and catalogue they are.
        blend: how to join them.
    """
    shape = (len(period.users), len(period.catalogue))
    popular = popular_scores(period, blend.popularity_half_life_days)
    result = np.empty(shape, np.float32)
    for start in range(0, shape[0], USERS_AT_ONCE):
        rows = slice(start, min(start + USERS_AT_ONCE, shape[0]))
        columns = {
            name: calibrated(scores[rows], blend.calibrations.get(name)).ravel()
            for name, scores in raw.items()
        }
        n_users = rows.stop - start
        columns[POPULAR] = np.tile(popular, n_users)
        matrix = score_matrix(columns, n_users * shape[1])
        result[rows] = relevance(matrix, blend.weights).reshape(n_users, shape[1])
    return result
