"""Whether a page has the topics that its user turns to, in their proportions."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import rel_entr

from recmesh.offline.metrics.relevance import Float64

SMOOTHING = 0.01
"""Share of the history in the page's distribution, so that a missing topic costs no infinity."""


def miscalibration_bits(
    history: sparse.csr_matrix, pages: sparse.csr_matrix, topics: sparse.csr_matrix
) -> Float64:
    """Kullback–Leibler divergence of a page's topics from the history's ``[users]``, in bits.

    C_KL = Σ p log₂(p / q̃) over topics, q̃ = 0.99 q + 0.01 p, p of the history, q of the page
    (Steck 2018). An item is shared out evenly among its topics; items without any count not. 0: in
    proportion; at most log₂ 100 = 6.64. NaN for users without a topic in history or page.

    Args:
        history: items that each user turned to, as ones ``[users, items]``.
        pages: items that are shown, as ones ``[users, items]``.
        topics: as ones ``[items, topics]``.
    """
    sizes = np.asarray(topics.sum(axis=1)).ravel()
    shares = sparse.csr_matrix(sparse.diags(1.0 / np.maximum(sizes, 1)) @ topics)
    own = np.asarray((history @ shares).todense(), np.float64)
    shown = np.asarray((pages @ shares).todense(), np.float64)
    known = (own.sum(axis=1) > 0) & (shown.sum(axis=1) > 0)
    p = own[known] / own[known].sum(axis=1, keepdims=True)
    q = shown[known] / shown[known].sum(axis=1, keepdims=True)
    found = np.full(len(known), np.nan)
    divergence = rel_entr(p, (1 - SMOOTHING) * q + SMOOTHING * p).sum(axis=1) / np.log(2)
    found[known] = np.maximum(divergence, 0.0)
    return found
