"""What novelty and diversity are measured on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.offline.evaluation.baselines import popularity
from recmesh.offline.evaluation.period import Period

Float64 = npt.NDArray[np.float64]


def item_vectors(of: Period) -> tuple[sparse.csr_matrix, str]:
    """Unit vectors of the catalogue's items for diversity, and what they are made of.

    Topics when most items have some, otherwise the users who wanted the item so far.
    """
    items = of.known.items
    rows = {item_id: row for row, item_id in enumerate(items["item_id"].to_pylist())}
    places = [rows.get(item_id, -1) for item_id in of.catalogue]
    topics = items["topics"].to_pylist()
    sets = [set(topics[place]) - {""} if place >= 0 else set() for place in places]
    if np.mean([bool(found) for found in sets]) > 0.5:
        names = {name: i for i, name in enumerate(sorted(set().union(*sets)))}
        columns = [names[name] for found in sets for name in sorted(found)]
        starts = np.cumsum([0, *(len(found) for found in sets)])
        ones = np.ones(len(columns), np.float32)
        vectors = sparse.csr_matrix((ones, columns, starts), shape=(len(sets), len(names)))
        meaning = "topics (1 − cosine)"
    else:
        vectors = sparse.csr_matrix(of.past_matrix.T)
        meaning = "co-occurrence in users' histories (1 − cosine)"
    lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    scaled = sparse.diags(1 / np.maximum(lengths, 1e-9)) @ vectors
    return sparse.csr_matrix(scaled, dtype=np.float32), meaning


def self_information_bits(of: Period) -> Float64:
    """−log₂ of the share of past users who wanted each item ``[catalogue]``."""
    users = len(np.unique(of.past.users))
    return np.asarray(-np.log2(popularity(of) / users), np.float64)
