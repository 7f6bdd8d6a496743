"""EASE: a linear item-to-item model in closed form (Steck, WWW 2019)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recmesh.models.model import Float32, Int64


def fit_ease(matrix: sparse.csr_matrix, regularisation: float) -> Float32:
    """Item weights ``[items, items]`` with a zero diagonal, scaled to at most 1.

    The common scale does not change a ranking; it keeps small weights exact in float16.
    """
    gram = np.asarray((matrix.T @ matrix).toarray(), np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights / (np.abs(weights).max() or 1.0), np.float32)


def ease_scores(item_weights: Float32, items: Int64, weights: Float32) -> Float32:
    """Scores ``[items]`` for a history of item positions and their weights ``[n]``."""
    return np.asarray(weights @ item_weights[items].astype(np.float32), np.float32)
