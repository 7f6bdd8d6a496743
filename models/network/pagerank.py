"""Personalised PageRank by power iteration (Haveliwala, WWW 2002), best nodes kept."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recmesh.models.model import Float32, Int64

CHUNK = 256  # users at a time: bounds memory at nodes × 256 floats


def personalised_pagerank(
    adjacency: sparse.csr_matrix, restart: float, iterations: int, keep: int
) -> tuple[Int64, Float32]:
    """Nearest nodes and their PageRank, both ``[nodes, min(keep, nodes)]``, best first.

    ``adjacency`` is symmetric with positive weights. A node is not near itself: its own
    rank, and ranks beyond ``keep``, are left out; unused places hold a rank of 0.
    """
    n = adjacency.shape[0]
    degrees = np.asarray(adjacency.sum(axis=1)).ravel()
    step = (sparse.diags(1 / np.where(degrees > 0, degrees, 1)) @ adjacency).T.tocsr()
    keep = min(keep, n)
    nearest, ranks = np.zeros((n, keep), np.int64), np.zeros((n, keep), np.float32)
    for start in range(0, n, CHUNK):
        nodes = np.arange(start, min(start + CHUNK, n))
        columns = np.arange(len(nodes))
        source = np.zeros((n, len(nodes)))
        source[nodes, columns] = restart
        rank = source / restart
        for _ in range(iterations):
            rank = (1 - restart) * (step @ rank) + source
        rank[nodes, columns] = 0.0
        best = np.argsort(-rank, axis=0, kind="stable")[:keep]
        nearest[nodes] = best.T
        ranks[nodes] = np.take_along_axis(rank, best, axis=0).T
    return nearest, ranks
