"""Confidence intervals of off-policy estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its standard error and its interval."""

    value: float
    standard_error: float
    low: float
    high: float

    def holds(self, truth: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= truth <= self.high


def interval(contributions: Float64, unit: Int64, alpha: float = 0.05) -> Interval:
    """Mean of contributions ``[n]``, and its interval of level 1 − alpha over units.

    Student's t over units (Liang & Zeger 1986), with the mean corrected for the contributions'
    skewness by Johnson's transformation as Hall inverts it ("On the removal of skewness by
    transformation", JRSS B 1992): weights make contributions skewed, and a symmetric interval
    then ends too low too often.

    Raises:
        DataError: fewer than 2 units.
    """
    value = float(contributions.mean())
    sums = np.bincount(unit, contributions - value)[np.bincount(unit) > 0]
    units = len(sums)
    if units < 2:
        raise DataError(f"{units} units; an interval needs at least 2")
    variance = float(np.square(sums).sum() / (units - 1))
    # Per unit; a row's share of the mean is 1/n whatever its unit's size.
    scale = units / len(contributions)
    error = float(np.sqrt(variance / units) * scale)
    if error == 0.0:
        return Interval(value, 0.0, value, value)
    skewness = float(np.power(sums, 3).mean() / variance**1.5)
    reach = float(stats.t.isf(alpha / 2, units - 1))
    low, high = (value - error * _hall(quantile, skewness, units) for quantile in (reach, -reach))
    return Interval(value, error, low, high)


def _hall(quantile: float, skewness: float, units: int) -> float:
    """The studentised mean whose transformed value is the quantile."""
    a = skewness / 3.0
    root = np.sqrt(units)
    if abs(a) < 1e-9:
        return quantile
    # T(u) = u + a u²/√n + a² u³/(3n) + a/(2√n), which is a cube: no branch, always invertible.
    inner = 1.0 + 3.0 * a / root * (quantile - skewness / (6.0 * root))
    return float(root / a * (np.cbrt(inner) - 1.0))
