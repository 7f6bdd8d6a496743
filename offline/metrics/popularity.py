"""Whether pages are more popular than what their users turn to.

The mean popularity of a page (average recommendation popularity; Yin et al. 2012, Abdollahpouri,
Burke & Mobasher 2019) is :func:`~recmesh.offline.metrics.pages.page_mean` of its items'.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from recmesh.offline.metrics.relevance import Float64, Int64

END = 0.2
"""Share of the interactions that the head has, and that the tail has."""


def lift(shown: Float64, turned_to: Float64) -> Float64:
    """How much more popular pages are than histories (Abdollahpouri et al. 2020).

    0: as popular; 0.5: by half more; below 0: less.

    Args:
        shown: group average popularity of pages ``[...]``.
        turned_to: the same of histories, above 0.
    """
    return np.asarray(shown / turned_to - 1.0)


def popularity_groups(popularity: Float64) -> Int64:
    """0 (head), 1 (middle) or 2 (tail) of every item ``[items]``.

    The head is the most popular items that have 20% of the interactions between them, the tail
    the least popular that have 20% (Abdollahpouri et al. 2021).

    Args:
        popularity: interactions of each item ``[items]``, not all 0.
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    share = before / popularity.sum()
    groups = np.empty(len(popularity), np.int64)
    groups[order] = (share >= END).astype(np.int64) + (share >= 1 - END)
    return groups


def popularity_deviation(
    history: sparse.csr_matrix, pages: sparse.csr_matrix, groups: Int64
) -> Float64:
    """Distance of a page's mix of head, middle and tail from the history's ``[users]``.

    Jensen–Shannon divergence in bits, in [0, 1]: user popularity deviation (Abdollahpouri et al.
    2021), here by user. NaN for users without a history or a page.

    Args:
        history: items that each user turned to, as ones ``[users, items]``.
        pages: items that are shown, as ones ``[users, items]``.
        groups: of :func:`popularity_groups`.
    """
    incidence = np.eye(3)[groups]
    own, shown = np.asarray(history @ incidence), np.asarray(pages @ incidence)
    known = (own.sum(axis=1) > 0) & (shown.sum(axis=1) > 0)
    found = np.full(len(known), np.nan)
    if known.any():
        distance = jensenshannon(own[known], shown[known], base=2, axis=1)
        # Rounding takes the root of a tiny negative number where both mixes are equal.
        found[known] = np.nan_to_num(distance) ** 2
    return found
