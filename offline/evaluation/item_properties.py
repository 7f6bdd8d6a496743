"""What novelty, diversity and calibration are measured on."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recmesh.models.model import Int64
from recmesh.offline.evaluation.baselines import popularity
from recmesh.offline.evaluation.period import Period
from recmesh.offline.metrics.diversity import ItemLikeness
from recmesh.offline.metrics.relevance import Float64


def catalogue_rows(of: Period) -> Int64:
    """Rows of the catalogue's items in the table of items ``[catalogue]``."""
    rows = {item_id: row for row, item_id in enumerate(of.known.items["item_id"].to_pylist())}
    return np.array([rows[item_id] for item_id in of.catalogue], np.int64)


def item_topics(of: Period) -> sparse.csr_matrix:
    """Topics of the catalogue's items as ones, float32 ``[catalogue, topics]``."""
    topics = of.known.items["topics"].to_pylist()
    sets = [set(topics[row]) - {""} for row in catalogue_rows(of).tolist()]
    names = {name: i for i, name in enumerate(sorted(set().union(*sets)))}
    columns = [names[name] for found in sets for name in sorted(found)]
    starts = np.cumsum([0, *(len(found) for found in sets)])
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_matrix((ones, columns, starts), shape=(len(sets), max(len(names), 1)))


def item_likeness(of: Period) -> ItemLikeness:
    """What diversity is measured on.

    Topics when most items have some, otherwise the users who wanted the item so far.
    """
    topics = item_topics(of)
    if (np.diff(topics.indptr) > 0).mean() > 0.5:
        return ItemLikeness(topics, True, "topics (1 − Jaccard's index)")
    vectors = sparse.csr_matrix(of.past_matrix.T)
    lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    unit = sparse.csr_matrix(
        sparse.diags(1 / np.maximum(lengths, 1e-9)) @ vectors, dtype=np.float32
    )
    return ItemLikeness(unit, False, "co-occurrence in users' histories (1 − cosine)")


def share_of_users(of: Period) -> Float64:
    """Share of the past users who wanted each item ``[catalogue]``, above 0."""
    users = len(np.unique(of.past.users))
    return np.asarray(popularity(of) / users, np.float64)
