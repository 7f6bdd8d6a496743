"""EASE: a linear item-to-item model in closed form (Steck, WWW 2019)."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import spotrf, spotri

from recmesh.models.model import Float32, Int64
from recmesh.storage.errors import ConfigurationError


def fit_ease(matrix: sparse.csr_matrix, regularisation: float) -> Float32:
    """Item weights ``[items, items]`` with a zero diagonal, scaled to at most 1.

    The common scale does not change a ranking; it keeps small weights exact in float16.
    Inverting by Cholesky, in place and in single precision, takes half the work and a
    quarter of the memory of a general inverse: 11,000 items need 0.5 GB and 15 s on a core.

    Raises:
        ConfigurationError: the regularisation is too small for the Gram matrix to be
            positive definite.
    """
    gram = np.asarray((matrix.T @ matrix).toarray(order="F"), np.float32, order="F")
    gram[np.diag_indices_from(gram)] += np.float32(regularisation)
    factor, failed = spotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise ConfigurationError(f"EASE: regularisation {regularisation} is too small; raise it")
    # Only the lower triangle is the inverse; what lies above is left from the Gram matrix.
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    scale = -1 / np.diag(inverse)
    weights = np.tril(inverse, -1)
    weights += weights.T
    weights *= scale
    largest = max(float(weights.max(initial=0.0)), -float(weights.min(initial=0.0)))
    weights /= np.float32(largest or 1.0)
    return np.ascontiguousarray(weights)


def ease_scores(item_weights: Float32, items: Int64, weights: Float32) -> Float32:
    """Scores ``[items]`` for a history of item positions and their weights ``[n]``."""
    return np.asarray(weights @ item_weights[items].astype(np.float32), np.float32)
