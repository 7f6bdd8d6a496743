"""Means over the slots of pages.

``shown`` is bool ``[users, slots]``: which slots are filled.
"""

from __future__ import annotations

import numpy as np

from recmesh.offline.metrics.relevance import Bool, Float64


def page_mean(values: Float64, shown: Bool) -> Float64:
    """Mean of ``values`` ``[users, slots]`` over the filled slots ``[users]``; NaN without any."""
    filled = shown.sum(axis=1)
    total = np.where(shown, values, 0.0).sum(axis=1)
    undefined = np.full(len(shown), np.nan)
    found: Float64 = np.divide(total, filled, out=undefined, where=np.asarray(filled > 0))
    return found


def slot_mean(values: Float64, shown: Bool) -> Float64:
    """Mean over all slots ``[users]``, an empty one being worth 0."""
    return np.asarray(np.where(shown, values, 0.0).mean(axis=1))
