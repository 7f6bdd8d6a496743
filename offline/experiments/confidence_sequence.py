"""Always-valid inference: intervals and p-values that hold at every look, and at any stop.

Asymptotic confidence sequences of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 2024 (their
equation for two-sided sequences, a Gaussian mixture of Robbins): after t units with mean m and
standard deviation s,

    m ± s · sqrt((t ρ² + 1) / (t² ρ²) · log((t ρ² + 1) / α²))

Any estimator with a standard error e that is asymptotically a mean of the units' influences has
s = e √t: differences of means, adjusted by covariates or not, and ratios by the delta method. The
p-value is the smallest α whose interval leaves out 0; it is the inverse of the mixture
likelihood ratio of Johari, Koomen, Pekelis & Walsh (KDD 2017) under a normal prior.

All functions broadcast over arrays.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Float64 = npt.NDArray[np.float64]
Numbers = float | Float64

FEWEST_UNITS = 200
"""Before as many units the normal approximation is not trusted: intervals are infinite, p is 1."""


def mixture_scale(planned_units: int, alpha: float) -> float:
    """ρ that makes intervals of level 1 − alpha tightest after the planned number of units.

    Waudby-Smith et al. 2024, appendix; W is Lambert's function, its lower branch.
    """
    lambert = float(np.real(special.lambertw(-(alpha**2) * math.exp(-1), -1)))
    return math.sqrt((-lambert - 1) / planned_units)


def radius(standard_error: Numbers, units: Numbers, scale: float, alpha: float) -> Float64:
    """Half the width of the interval of level 1 − alpha.

    Args:
        standard_error: of the estimate at this look.
        units: all units that the estimate is of.
        scale: from :func:`mixture_scale`, the same at every look.
        alpha: chance to leave out the truth at any look, ever.
    """
    t = np.asarray(units, np.float64) * scale**2
    reach = np.asarray(standard_error) * np.sqrt((t + 1) / t * np.log((t + 1) / alpha**2))
    return np.where(np.asarray(units) < FEWEST_UNITS, np.inf, reach)


def always_valid_p(z: Numbers, units: Numbers, scale: float) -> Float64:
    """p-value that may be looked at any number of times.

    Args:
        z: estimate over its standard error.
        units: as in :func:`radius`.
        scale: as in :func:`radius`.
    """
    t = np.asarray(units, np.float64) * scale**2
    log_p = 0.5 * np.log(t + 1) - np.square(z) * t / (2 * (t + 1))
    return np.where(np.asarray(units) < FEWEST_UNITS, 1.0, np.exp(np.minimum(log_p, 0.0)))
