"""Whether pages show what their users would not have met anyway."""

from __future__ import annotations

import numpy as np

from recmesh.offline.metrics.pages import slot_mean
from recmesh.offline.metrics.relevance import Bool, Float64, Int64


def self_information_bits(share: Float64) -> Float64:
    """−log₂ of the share of past users who wanted each item, which is above 0 ``[items]``.

    Its mean over a page is the page's novelty (Zhou et al. 2010; Vargas & Castells 2011).
    """
    return np.asarray(-np.log2(share))


def serendipity(hits: Bool, best: Int64, primitive: Int64) -> Float64:
    """Share of the slots with a wanted item that a primitive recommender would not have shown.

    (Ge, Delgado-Battenfeld & Jannach 2010.) In [0, 1].

    Args:
        hits: slots that hold a wanted item ``[users, slots]``.
        best: catalogue positions of the pages ``[users, slots]``; -1 is empty.
        primitive: the same of the primitive recommender's pages for the same users, as long.

    Returns:
        ``[users]``
    """
    expected = (best[:, :, None] == primitive[:, None, :]).any(axis=2)
    return slot_mean((hits & ~expected).astype(np.float64), best >= 0)
