"""Calibrations learned from a period: what a raw score says about being wanted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period
from recmesh.orchestrator.blend import Calibration

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

MOST_KNOTS = 32
SMALLEST_BIN = 50
"""Scores in the topmost bin; a frequency of fewer would be noise."""
SHOWN_RATE = 0.1
"""Share of shown items that are engaged with: about one on a page of ten."""


def pool_adjacent_violators(values: Float64, weights: Float64) -> Float64:
    """The non-decreasing sequence nearest to ``values`` by weighted squares ``[n]``.

    (Ayer et al. 1955.)
    """
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while means and means[-1] >= mean:
            above, below = mass, masses.pop()
            mass = above + below
            mean = (mean * above + means.pop() * below) / mass
            length += lengths.pop()
        means.append(mean)
        masses.append(mass)
        lengths.append(length)
    return np.repeat(means, lengths)


def isotonic(raw: Float32, wanted: Bool) -> Calibration | None:
    """Probability that a shown item with a raw score is wanted, by isotonic regression.

    Scores are binned by rank, finest at the top where pages are made, pooled to be monotone,
    and joined by lines. The last line goes on to the largest score, so that the best items
    do not tie. What is shown is wanted far more often than what lies in the catalogue, so
    the odds are shifted from the base rate of ``wanted`` to ``SHOWN_RATE`` (Elkan 2001);
    it also makes use of [0, 1], which objectives and diversity are weighed against.

    Args:
        raw: finite scores ``[n]``.
        wanted: whether the item was wanted ``[n]``.

    Returns:
        At most 32 knots; None when scores do not vary or nothing was wanted.
    """
    if len(raw) < 2 or not wanted.any() or raw.min() == raw.max():
        return None
    order = np.argsort(raw, kind="stable")
    sizes = np.geomspace(min(SMALLEST_BIN, len(raw)), len(raw), MOST_KNOTS - 1)
    edges = np.unique(np.concatenate([[0], len(raw) - sizes.astype(np.int64), [len(raw)]]))
    masses = np.diff(edges).astype(np.float64)
    scores = np.add.reduceat(raw[order].astype(np.float64), edges[:-1]) / masses
    rates = np.add.reduceat(wanted[order].astype(np.float64), edges[:-1]) / masses
    fitted = pool_adjacent_violators(rates, masses)
    _, blocks = np.unique(fitted, return_inverse=True)
    total = np.bincount(blocks, masses)
    knots = np.bincount(blocks, scores * masses) / total
    values = np.bincount(blocks, fitted * masses) / total
    if len(knots) < 2:
        return None
    top = float(raw.max())
    if top > knots[-1]:
        slope = (values[-1] - values[-2]) / (knots[-1] - knots[-2])
        values = np.append(values, min(1.0, values[-1] + slope * (top - knots[-1])))
        knots = np.append(knots, top)
    raw_scores, places = np.unique(knots.astype(np.float32), return_index=True)
    shifted = as_shown(values[places], float(wanted.mean()))
    return Calibration(raw_scores, np.maximum.accumulate(shifted.astype(np.float32)))


def as_shown(probabilities: Float64, base_rate: float) -> Float64:
    """Probabilities ``[n]`` at the base rate, in (0, 1), as they are at ``SHOWN_RATE``."""
    wanted = probabilities * (SHOWN_RATE / base_rate)
    unwanted = (1 - probabilities) * ((1 - SHOWN_RATE) / max(1 - base_rate, 1e-9))
    return np.asarray(wanted / np.maximum(wanted + unwanted, 1e-12), np.float64)


def calibration_of(raw: Float32, period: Period) -> Calibration | None:
    """Calibration of a model's raw scores ``[users, catalogue]`` by what the period shows.

    Items seen before and scores that are not finite take no part.
    """
    kept = np.isfinite(raw)
    kept[period.seen.nonzero()] = False
    wanted = np.zeros(raw.shape, bool)
    wanted[period.wanted.nonzero()] = True
    return isotonic(raw[kept], wanted[kept])
