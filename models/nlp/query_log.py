"""What doctors searched for and then read, as the language model's artifact keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32
from recmesh.models.nlp.earlier_queries import EarlierQueries
from recmesh.storage.artifacts import Artifact

MIN_USERS = 2
"""A query that fewer doctors asked is not kept: it may name a patient."""
MOST_QUERIES = 20_000
"""Those that led to most clicks; the rest repeats them in other words."""

Clicks = Mapping[str, Mapping[str, float]]
"""Weights of the items that each query led to, by item id."""


def kept(clicks: Clicks) -> dict[str, Mapping[str, float]]:
    """The queries that led to most clicks, at most ``MOST_QUERIES``; ties by text."""
    order = sorted(clicks, key=lambda query: (-sum(clicks[query].values()), query))
    return {query: clicks[query] for query in order[:MOST_QUERIES]}


def packed(
    clicks: Clicks, item_ids: Sequence[str], vectors: Float32
) -> dict[str, npt.NDArray[Any]]:
    """The log as tensors of an artifact, which holds the queries as its list ``queries``.

    Args:
        clicks: of items among ``item_ids``.
        item_ids: the artifact's.
        vectors: of the queries, unit length ``[len(clicks), dim]``.
    """
    rows = {item_id: row for row, item_id in enumerate(item_ids)}
    links = [{rows[item_id]: n for item_id, n in items.items()} for items in clicks.values()]
    log = EarlierQueries.of(vectors, links)
    return {
        "query_vectors": log.vectors,
        "query_starts": log.starts,
        "query_items": log.items,
        "query_weights": log.weights,
    }


def earlier_queries(artifact: Artifact) -> EarlierQueries:
    """The log, its items counted in the artifact's ``item_ids``.

    Raises:
        KeyError: the artifact has none.
    """
    tensors = artifact.tensors
    return EarlierQueries(
        tensors["query_vectors"].astype(np.float32),
        tensors["query_starts"],
        tensors["query_items"],
        tensors["query_weights"],
    )


def asked(artifact: Artifact) -> dict[str, list[str]]:
    """By item id, the queries that led to it: what its words in the index are extended by.

    Empty for artifacts without a log.
    """
    if "queries" not in artifact.strings:
        return {}
    item_ids, log = artifact.strings["item_ids"], earlier_queries(artifact)
    found: dict[str, list[str]] = {}
    for query, start, end in zip(
        artifact.strings["queries"], log.starts[:-1].tolist(), log.starts[1:].tolist(), strict=True
    ):
        for item in log.items[start:end].tolist():
            found.setdefault(item_ids[item], []).append(query)
    return found
