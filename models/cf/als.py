"""Implicit ALS (Hu, Koren, Volinsky, ICDM 2008) with users folded in from a history."""

from __future__ import annotations

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmesh.models.model import Float32, Int64


def fit_als(
    matrix: sparse.csr_matrix, factors: int, regularisation: float, confidence: float, seed: int
) -> Float32:
    """Item factors ``[items, factors]``."""
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularisation,
            alpha=confidence,
            iterations=15,
            num_threads=1,  # more would make the sums, and so the artifact, depend on timing
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    return np.asarray(model.item_factors, np.float32)


def als_scores(
    item_factors: Float32,
    gram: Float32,
    items: Int64,
    weights: Float32,
    regularisation: float,
    confidence: float,
) -> Float32:
    """Scores ``[items]`` of a user solved from a history of item positions ``[n]``.

    ``gram`` is ``item_factors.T @ item_factors``, computed once.
    """
    seen = item_factors[items]
    trust = confidence * weights
    left = gram + seen.T @ ((trust - 1.0)[:, None] * seen)
    left = left + regularisation * np.eye(len(gram), dtype=np.float32)
    user = np.linalg.solve(left, seen.T @ trust)
    return np.asarray(item_factors @ user, np.float32)
