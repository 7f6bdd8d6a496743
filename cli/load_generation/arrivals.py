"""When requests are to start: a Poisson process, as of many callers who know nothing of each other.

A process of a changing rate is one of unit rate in another time: the expected number of arrivals
so far (Çinlar 1975, the inversion method). That number is linear within a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.cli.load_generation.rate_profile import Segment


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Ascending times, and the segment that each falls into."""

    at_s: np.ndarray
    """From the start of the run, float64."""
    segment: np.ndarray
    """Places in the profile."""


def poisson_arrivals(profile: Sequence[Segment], rng: np.random.Generator) -> Arrivals:
    """Draws one run of a profile."""
    expected = np.cumsum([segment.rate_per_s * segment.seconds for segment in profile])
    ends_s = np.cumsum([segment.seconds for segment in profile])
    total = float(expected[-1])
    counts = np.empty(0)
    while not counts.size or counts[-1] < total:
        gaps = rng.exponential(size=int(total + 4 * total**0.5) + 8)
        counts = np.concatenate([counts, (counts[-1] if counts.size else 0.0) + np.cumsum(gaps)])
    counts = counts[counts < total]
    return Arrivals(
        at_s=np.interp(counts, [0.0, *expected], [0.0, *ends_s]),
        segment=np.searchsorted(expected, counts, side="right"),
    )
