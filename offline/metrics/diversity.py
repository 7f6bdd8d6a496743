"""How different the items of one page are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.offline.metrics.relevance import Bool, Float64, Int64

Float32 = npt.NDArray[np.float32]

USERS_AT_ONCE = 128


def jaccard(shared: Float32, sizes: Float32) -> Float32:
    """Jaccard's index of all pairs of sets, in [0, 1]; 0 for two empty ones.

    Args:
        shared: how many members each two have in common ``[..., n, n]``.
        sizes: members of each ``[..., n]``.
    """
    either = sizes[..., :, None] + sizes[..., None, :] - shared
    return np.asarray(shared / np.maximum(either, 1), np.float32)


def mean_pair_distance(near: npt.NDArray[np.floating], shown: Bool) -> Float64:
    """Mean of 1 − likeness over a page's pairs (Smyth & McClave 2001) ``[users]``.

    Args:
        near: how alike the items of each two slots are ``[users, slots, slots]``, in [0, 1].
        shown: which slots are filled ``[users, slots]``; NaN for users with fewer than 2.
    """
    pairs = shown[:, :, None] & shown[:, None, :] & ~np.eye(shown.shape[1], dtype=bool)
    count = pairs.sum(axis=(1, 2))
    distance = ((1.0 - near.astype(np.float64)) * pairs).sum(axis=(1, 2))
    undefined = np.full(len(shown), np.nan)
    found: Float64 = np.divide(distance, count, out=undefined, where=np.asarray(count > 0))
    return found


@dataclass(frozen=True)
class ItemLikeness:
    """What makes two items alike: the sets of their topics, or the direction of their vectors."""

    vectors: sparse.csr_matrix
    """float32 ``[items, dim]``: ones for the members of sets; otherwise of length 1 or 0."""
    of_sets: bool
    """Jaccard's index of sets; otherwise the cosine."""
    meaning: str
    """For people."""

    def diversity(self, best: Int64) -> Float64:
        """:func:`mean_pair_distance` of the pages ``best`` ``[users, slots]``; -1 is empty."""
        parts = [
            self._diversity(best[start : start + USERS_AT_ONCE])
            for start in range(0, len(best), USERS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _diversity(self, best: Int64) -> Float64:
        n_users, slots = best.shape
        items = self.vectors[np.maximum(best, 0).ravel()]
        rows = np.asarray(items.todense(), np.float32).reshape(n_users, slots, -1)
        products = rows @ rows.transpose(0, 2, 1)
        near = jaccard(products, rows.sum(axis=2)) if self.of_sets else products
        return mean_pair_distance(near, best >= 0)
