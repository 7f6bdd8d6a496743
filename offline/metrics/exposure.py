"""How the attention of all users is shared out among items and among who provides them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recmesh.offline.metrics.relevance import Float64, Int64, discounts


def exposure(best: Int64, n_items: int) -> sparse.csr_matrix:
    """Attention that each item has from each user, float64 ``[users, items]``.

    A slot has 1 / log₂(1 + rank) of it (Singh & Joachims 2018).

    Args:
        best: catalogue positions of the pages ``[users, slots]``; -1 is empty.
        n_items: of the catalogue.
    """
    users, slots = np.nonzero(best >= 0)
    worth = discounts(best.shape[1])[slots]
    return sparse.csr_matrix((worth, (users, best[users, slots])), shape=(len(best), n_items))


def coverage(exposures: Float64) -> Float64:
    """Share of the items ``[..., items]`` that have any exposure ``[...]``, in [0, 1]."""
    return np.asarray((exposures > 0).mean(axis=-1))


def gini(exposures: Float64) -> Float64:
    """Gini's coefficient of items' exposures ``[..., items]`` (Fleder & Hosanagar 2009) ``[...]``.

    0: all have the same; towards 1: few have all. Items without exposure count. NaN when nothing
    is shown.
    """
    ascending = np.sort(exposures, axis=-1)
    n_items = ascending.shape[-1]
    total = ascending.sum(axis=-1)
    weighted = ascending @ np.arange(1, n_items + 1)
    undefined = np.full(total.shape, np.nan)
    share = np.divide(2 * weighted, n_items * total, out=undefined, where=np.asarray(total > 0))
    return np.asarray(share - (n_items + 1) / n_items)


def lorenz(exposures: Float64, points: int = 101) -> Float64:
    """Share of the exposure that the least shown items have together (Lorenz 1905) ``[points]``.

    Args:
        exposures: of every item ``[items]``, not all 0.
        points: shares of the items, evenly from 0 to 1.
    """
    cumulated = np.concatenate([[0.0], np.cumsum(np.sort(exposures))])
    places = np.linspace(0, len(exposures), points)
    found = np.interp(places, np.arange(len(cumulated)), cumulated / cumulated[-1])
    return np.asarray(found, np.float64)


def inequity(exposures: Float64, merits: Float64) -> Float64:
    """Share of the exposure that other providers would have to have, were it given by merit.

    ½ Σ |share of exposure − share of merit| over providers: the equity of attention of Biega,
    Gummadi & Weikum (2018) for the merit-based exposure of Singh & Joachims (2018). In [0, 1];
    0 is fair. With few wants a provider, chance alone keeps it above 0, so compare systems.

    Args:
        exposures: of every provider ``[..., providers]``.
        merits: what their items are worth to users, same shape.

    Returns:
        ``[...]``; NaN with fewer than two providers, without exposure or without merit.
    """
    shown, worth = exposures.sum(axis=-1), merits.sum(axis=-1)
    known = (shown > 0) & (worth > 0) & (exposures.shape[-1] > 1)
    gaps = np.abs(exposures / _safe(shown) - merits / _safe(worth))
    return np.where(known, gaps.sum(axis=-1) / 2, np.nan)


def _safe(totals: Float64) -> Float64:
    return np.where(totals > 0, totals, 1.0)[..., None]
