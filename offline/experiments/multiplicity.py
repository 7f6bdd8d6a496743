"""Corrections of several p-values.

Holm for goals, where one false find ships something; Benjamini–Hochberg for slices, which are
explored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Float64 = npt.NDArray[np.float64]


def holm(p: Float64) -> Float64:
    """p-values whose comparison to α keeps the chance of any false find at α (Holm 1979).

    Args:
        p: ``[..., hypotheses]``, of any dependence; also always-valid ones.
    """
    order = np.argsort(p, axis=-1)
    factors = np.arange(p.shape[-1], 0, -1)
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, -1) * factors, axis=-1)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), -1)
    return adjusted


def benjamini_hochberg(p: Float64) -> Float64:
    """p-values whose comparison to α keeps the expected share of false finds at α.

    Benjamini & Hochberg 1995, by SciPy; for independent or positively dependent hypotheses.
    """
    if p.size == 0:
        return p
    return np.asarray(stats.false_discovery_control(p, axis=-1), np.float64)
