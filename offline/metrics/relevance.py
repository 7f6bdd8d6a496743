"""Whether pages hold what their users wanted.

``hits`` is bool ``[users, slots]``, best slot first; ``n_wanted`` counts the items that each user
wanted, on the page or not ``[users]``. Results are ``[users]``, in [0, 1]; NaN for users who wanted
nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def discounts(slots: int) -> Float64:
    """What each slot is worth ``[slots]``: 1 / log₂(1 + rank) (Järvelin & Kekäläinen 2002)."""
    return np.asarray(1.0 / np.log2(np.arange(2, slots + 2)))


def ndcg(hits: Bool, n_wanted: Int64) -> Float64:
    """Discounted gains of binary relevance over the best possible (Järvelin & Kekäläinen 2002)."""
    worth = discounts(hits.shape[1])
    ideals = np.concatenate([[0.0], np.cumsum(worth)])
    return _over(hits @ worth, ideals[np.minimum(n_wanted, hits.shape[1])])


def recall(hits: Bool, n_wanted: Int64) -> Float64:
    """Share of the wanted items that are on the page."""
    return _over(hits.sum(axis=1), n_wanted)


def reciprocal_rank(hits: Bool, n_wanted: Int64) -> Float64:
    """1 / rank of the first wanted item, 0 if none is shown (Voorhees 1999)."""
    first = 1.0 / (1.0 + hits.argmax(axis=1))
    return np.where(n_wanted > 0, first * hits.any(axis=1), np.nan)


def hit_rate(hits: Bool, n_wanted: Int64) -> Float64:
    """1 where some wanted item is shown, otherwise 0."""
    return np.where(n_wanted > 0, hits.any(axis=1).astype(np.float64), np.nan)


def _over(values: Float64 | Int64, wholes: Float64 | Int64) -> Float64:
    undefined = np.full(len(wholes), np.nan)
    found: Float64 = np.divide(values, wholes, out=undefined, where=np.asarray(wholes > 0))
    return found
