"""What every model must beat: four simple rankings and two classic item-to-item models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from recmesh.models.cf.ease import fit_ease
from recmesh.models.interactions import SECONDS_PER_DAY
from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period

NEIGHBOURS = 100
EASE_REGULARISATION = 250.0
RECENT_HALF_LIVES_DAYS = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0)
LARGEST_EASE = 16_000  # items; beyond, the closed form takes minutes and gigabytes


def random_scores(period: Period, seed: int) -> Float32:
    """Uniform noise ``[users, catalogue]``."""
    shape = (len(period.users), len(period.catalogue))
    return np.random.default_rng(seed).random(shape, np.float32)


def popularity(period: Period) -> Float32:
    """Users who wanted each item so far ``[catalogue]``."""
    return np.asarray(period.past_matrix.sum(axis=0), np.float32).ravel()


def recent_popularity(period: Period, half_life_days: float) -> Float32:
    """Positive events of each item, halved every half-life ``[catalogue]``."""
    age_days = (period.now_unix_s - period.past.times_unix_s) / SECONDS_PER_DAY
    decayed = np.exp2(-age_days / half_life_days)
    counts = np.bincount(period.past_columns, decayed, minlength=len(period.catalogue))
    return counts.astype(np.float32)


def item_knn(period: Period) -> Float32:
    """Summed cosine of each item to the history, 100 nearest neighbours ``[users, catalogue]``.

    (Sarwar et al., WWW 2001.)
    """
    columns = period.past_matrix.tocsc()
    norms = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
    unit = columns @ sparse.diags(1 / np.maximum(norms, 1e-9))
    n_items = unit.shape[1]
    blocks = []
    for start in range(0, n_items, 512):
        block = np.asarray((unit[:, start : start + 512].T @ unit).todense(), np.float32)
        rows = np.arange(len(block))
        block[rows, rows + start] = 0.0
        if n_items > NEIGHBOURS:
            least = np.partition(block, n_items - NEIGHBOURS, axis=1)[:, n_items - NEIGHBOURS]
            block[block < least[:, None]] = 0.0
        blocks.append(sparse.csr_matrix(block))
    nearest = sparse.vstack(blocks, format="csr")
    return np.asarray((period.history @ nearest.T).todense(), np.float32)


def ease(period: Period) -> Float32:
    """EASE on unweighted positives, regularisation 250 ``[users, catalogue]``."""
    return np.asarray(period.history @ fit_ease(period.past_matrix, EASE_REGULARISATION))


def _everybody(scores: Float32, period: Period) -> Float32:
    return np.broadcast_to(scores, (len(period.users), len(period.catalogue)))


def baselines(
    period: Period, seed: int, recent_half_life_days: float
) -> dict[str, Callable[[], Float32]]:
    """Every baseline by name: a function that yields its scores ``[users, catalogue]``."""
    known: dict[str, Callable[[], Float32]] = {
        "random": lambda: random_scores(period, seed),
        "popularity": lambda: _everybody(popularity(period), period),
        "recent popularity": lambda: _everybody(
            recent_popularity(period, recent_half_life_days), period
        ),
        "item-kNN": lambda: item_knn(period),
    }
    if len(period.catalogue) <= LARGEST_EASE:
        known["EASE"] = lambda: ease(period)
    return known
