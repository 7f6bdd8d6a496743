"""Trains the network model: closeness of doctors, and what each engaged with lately."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recmesh.models.interactions import event_weights, read_interactions
from recmesh.models.model import TrainedModel, TrainOptions
from recmesh.models.network.pagerank import personalised_pagerank
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import TIMESTAMP

DEFAULTS: dict[str, Any] = {
    "restart": 0.15,
    "iterations": 30,
    "keep": 100,  # nearest doctors of each doctor
    "half_life_days": 30.0,
    "type_weights": {"save": 2.0, "share": 2.0},
}


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """Ranks doctors around each doctor. Without edges the model has no opinions.

    Edges of unknown age are taken to be old enough.
    """
    settings = DEFAULTS | options.parameters
    edges = dataset.edges
    if options.until is not None:
        old = pc.less(edges["created_at"], pa.scalar(options.until, TIMESTAMP))
        edges = edges.filter(pc.fill_null(old, True))
    ends = np.concatenate(
        [edges[c].to_numpy().astype(str) for c in ("source_user_id", "target_user_id")]
    )
    user_ids, places = np.unique(ends, return_inverse=True)
    n, sources, targets = len(user_ids), places[: len(edges)], places[len(edges) :]
    strengths = pc.fill_null(edges["weight"], 1.0).to_numpy().astype(np.float64)
    # The model recommends ties, which run both ways; a self-tie says nothing.
    ties = sparse.csr_matrix((strengths * (sources != targets), (sources, targets)), shape=(n, n))
    ties = (ties + ties.T).tocsr()
    ties.eliminate_zeros()
    options.progress(0, 2, "graph and engagement")
    nearest, ranks = personalised_pagerank(
        ties, settings["restart"], settings["iterations"], settings["keep"]
    )
    options.progress(1, 2, "graph and engagement")

    events = read_interactions(dataset, options.until)
    last = int(events.times_unix_s[-1]) if len(events) else 0
    # Decay up to the last event suffices: time since then scales all scores alike,
    # and scores are standardised.
    weights = event_weights(
        events.event_types,
        events.times_unix_s,
        last,
        settings["type_weights"],
        settings["half_life_days"],
    )
    row_of = {user_id: row for row, user_id in enumerate(events.user_ids)}
    rows = [row_of.get(user_id, -1) for user_id in user_ids]
    engaged = sparse.csr_matrix(events.matrix(weights))
    empty = sparse.csr_matrix((1, engaged.shape[1]), dtype=np.float32)
    engaged = sparse.vstack([engaged, empty], format="csr")[rows]
    options.progress(2, 2, "graph and engagement")
    card = ModelCard(
        model="network",
        owner="recommendations",
        summary="Personalised PageRank over ties between doctors; recent reads of the nearest",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters=settings,
        limitations="Knows only doctors with a tie at training time.",
    )
    tensors = {
        "nearest": nearest.astype(np.int32),
        "ranks": ranks,
        "tie_targets": ties.indices.astype(np.int32),
        "tie_starts": ties.indptr.astype(np.int64),
        "engaged_weights": engaged.data.astype(np.float32),
        "engaged_items": engaged.indices.astype(np.int32),
        "engaged_starts": engaged.indptr.astype(np.int64),
    }
    return TrainedModel(card, tensors, {"user_ids": user_ids.tolist(), "item_ids": events.item_ids})
