"""Answers of models as numbers that can be compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.v1 import model_pb2

Float64 = npt.NDArray[np.float64]

SAME = 1e-5
"""Relative difference within which two scores are the same: what float32 sums in another order
differ by, with room."""


def opinions(answer: model_pb2.ScoreResponse) -> Float64:
    """Scores ``[n]``; NaN where it says that it has none."""
    scores = np.array(answer.scores, np.float64)
    missing = np.array([place for place in answer.missing if place < len(scores)], np.int64)
    scores[missing] = np.nan
    return scores


def difference(ours: Float64, theirs: Float64) -> float:
    """The largest relative difference; infinite where only one of the two is a number.

    Relative to the larger of both and 1, so that scores near 0 do not count as far apart.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    unlike = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    if not unlike.any():
        return 0.0
    a, b = ours[unlike], theirs[unlike]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float((np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))).max())
