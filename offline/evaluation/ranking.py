"""Rankings of the whole catalogue."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recmesh.models.model import Float32, Int64
from recmesh.offline.metrics.relevance import Bool


def top_items(scores: Float32, seen: sparse.csr_matrix, k: int) -> Int64:
    """The ``k`` best unseen items of every user ``[users, k]``, best first.

    Ties go to the earlier item. Places beyond the unseen items hold -1. NaN ranks as the
    lowest of scores.

    Args:
        scores: ``[users, catalogue]``.
        seen: bool ``[users, catalogue]``; these items are not ranked.
        k: at least 1.
    """
    n_users, n_items = scores.shape
    best = np.full((n_users, k), -1, np.int64)
    kept = min(k, n_items)
    for user in range(n_users):
        row = np.where(np.isnan(scores[user]), -np.finfo(np.float32).max, scores[user])
        row[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        # Everything that may reach the page, ties at the last place included.
        threshold = np.partition(row, n_items - kept)[n_items - kept]
        places = np.flatnonzero((row >= threshold) & (row > -np.inf))
        order = places[np.argsort(-row[places], kind="stable")[:kept]]
        best[user, : len(order)] = order
    return best


def hits_of(best: Int64, wanted: sparse.csr_matrix) -> Bool:
    """Slots of the pages ``best`` of :func:`top_items` with a wanted item ``[users, k]``.

    Args:
        best: catalogue positions ``[users, k]``; -1 where there is none.
        wanted: bool ``[users, catalogue]``.
    """
    rows = np.repeat(np.arange(len(best)), best.shape[1])
    flat = wanted[rows, np.maximum(best, 0).ravel()]
    return np.asarray(np.asarray(flat, bool).reshape(best.shape) & (best >= 0))


def wanted_counts(wanted: sparse.csr_matrix) -> Int64:
    """Wanted items of every user ``[users]``; ``wanted`` is bool ``[users, catalogue]``."""
    return np.asarray(np.diff(wanted.indptr), np.int64)
