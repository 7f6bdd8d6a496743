"""Whether an effect differs between slices of the units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recmesh.offline.experiments.effect import Effect


@dataclass(frozen=True, slots=True)
class Interaction:
    """Cochran's test that all slices have one effect (Cochran 1954)."""

    q: float
    """Squared deviations from the pooled effect over squared standard errors."""
    p: float
    pooled: float
    """Mean effect, slices weighed by precision."""


def interaction(effects: Mapping[str, Effect]) -> Interaction:
    """Of slices that share no unit; one slice alone has nothing to differ from: p is 1."""
    difference = np.array([effect.difference for effect in effects.values()])
    variance = np.array([effect.standard_error**2 for effect in effects.values()])
    known = variance > 0
    if known.sum() < 2:
        return Interaction(0.0, 1.0, float(difference[known].sum()))
    precision = 1.0 / variance[known]
    pooled = float(precision @ difference[known] / precision.sum())
    q = float(precision @ np.square(difference[known] - pooled))
    return Interaction(q, float(stats.chi2.sf(q, known.sum() - 1)), pooled)
