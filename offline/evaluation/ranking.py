"""Rankings of the whole catalogue, and what each of them is worth to its user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.models.model import Float32, Int64

Float64 = npt.NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class UserMetrics:
    """One ranking judged for every user; all arrays ``[users]``."""

    ndcg: Float64
    """Binary gains, discount 1 / log₂(1 + rank), in [0, 1] (Järvelin & Kekäläinen 2002)."""
    ndcg_new_as_misses: Float64
    """The same when wanted items outside the catalogue count as misses."""
    recall: Float64
    """Share of the wanted items among the top k, in [0, 1]."""
    novelty: Float64
    """Mean self-information of the shown items, bits (Vargas & Castells 2011)."""
    diversity: Float64
    """Mean distance of the shown items' pairs, in [0, 1]; NaN for users shown fewer than 2."""


def judge(
    best: Int64,
    wanted: sparse.csr_matrix,
    wanted_new: Int64,
    information_bits: Float64,
    vectors: sparse.csr_matrix,
) -> UserMetrics:
    """Judges the top k ``best`` ``[users, k]`` of :func:`top_items`.

    Args:
        best: catalogue positions; -1 where there is none.
        wanted: bool ``[users, catalogue]``, at least one for every user.
        wanted_new: wanted items outside the catalogue ``[users]``.
        information_bits: self-information of the catalogue's items ``[catalogue]``.
        vectors: unit or zero vectors of the catalogue's items, float32 ``[catalogue, dim]``.
    """
    n_users, k = best.shape
    users = np.arange(n_users)[:, None]
    shown = best >= 0
    places = np.where(shown, best, 0)
    flat = wanted[np.repeat(users, k, 1).ravel(), places.ravel()]
    hits = np.asarray(flat, bool).reshape(n_users, k) & shown
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideals = np.concatenate([[0.0], np.cumsum(discounts)])
    counts = np.diff(wanted.indptr)
    gains = hits @ discounts
    n_shown = shown.sum(axis=1)
    pages = sparse.csr_matrix(
        (shown.ravel().astype(np.float32), places.ravel(), np.arange(n_users + 1) * k),
        shape=(n_users, vectors.shape[0]),
    )
    # The squared length of a sum of vectors is the sum of all their products in pairs.
    squared_lengths = vectors.multiply(vectors).sum(axis=1)
    summed = (pages @ vectors).power(2).sum(axis=1) - pages @ squared_lengths
    products = np.asarray(summed, np.float64).ravel()
    pairs = n_shown * (n_shown - 1)
    return UserMetrics(
        ndcg=gains / ideals[np.minimum(counts, k)],
        ndcg_new_as_misses=gains / ideals[np.minimum(counts + wanted_new, k)],
        recall=hits.sum(axis=1) / counts,
        novelty=(information_bits[places] * shown).sum(axis=1) / np.maximum(n_shown, 1),
        diversity=np.where(pairs > 0, 1 - products / np.maximum(pairs, 1), np.nan),
    )


def coverage(best: Int64, n_items: int) -> float:
    """Share of the catalogue on at least one user's page, in [0, 1]."""
    return len(np.unique(best[best >= 0])) / n_items
