"""Trains the network model: closeness of doctors, and what each engaged with lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recmesh.models.holdout_quality import holdout_ndcg
from recmesh.models.interactions import Interactions, event_weights, read_interactions
from recmesh.models.model import Float32, Int64, TrainedModel, TrainOptions
from recmesh.models.network.pagerank import personalised_pagerank
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import TIMESTAMP

DEFAULTS: dict[str, Any] = {
    "restart": 0.15,
    "iterations": 30,
    "keep": 100,  # nearest doctors of each doctor
    "type_weights": {"save": 2.0, "share": 2.0},
}


HOLDOUT = 0.2
HALF_LIVES_DAYS = (30.0, 180.0, 0.0)


def _engaged(
    events: Interactions, user_ids: Sequence[str], settings: dict[str, Any], half_life_days: float
) -> sparse.csr_matrix:
    """What each doctor of the network engaged with, float32 ``[doctors, items]``.

    Decay up to the last event suffices: time since then scales all scores alike, and
    scores are standardised.
    """
    weights = event_weights(
        events.event_types,
        events.times_unix_s,
        int(events.times_unix_s[-1]) if len(events) else 0,
        settings["type_weights"],
        half_life_days,
    )
    row_of = {user_id: row for row, user_id in enumerate(events.user_ids)}
    rows = [row_of.get(user_id, -1) for user_id in user_ids]
    engaged = sparse.csr_matrix(events.matrix(weights))
    empty = sparse.csr_matrix((1, engaged.shape[1]), dtype=np.float32)
    return sparse.vstack([engaged, empty], format="csr")[rows]


def _choose_half_life(
    events: Interactions,
    user_ids: Sequence[str],
    nearest: Int64,
    ranks: Float32,
    settings: dict[str, Any],
    seed: int,
) -> tuple[float, dict[str, float]]:
    """How fast colleagues' reading fades, by nDCG@10 on the last fifth of the events.

    Returns:
        The half-life, and the measured figure of each that was tried.
    """
    early, late = events.split(HOLDOUT)
    if not len(early) or not len(user_ids):
        return HALF_LIVES_DAYS[0], {}
    doctor_of = {user_id: row for row, user_id in enumerate(user_ids)}
    doctors = np.array([doctor_of.get(user_id, -1) for user_id in events.user_ids], np.int64)
    users = np.unique(late.users)
    measured = {}
    for half_life_days in HALF_LIVES_DAYS:
        engaged = _engaged(early, user_ids, settings, half_life_days)

        def scores(user: int, engaged: sparse.csr_matrix = engaged) -> Float32:
            doctor = doctors[user]
            return np.asarray(engaged[nearest[doctor]].T @ ranks[doctor], np.float32)

        known = users[doctors[users] >= 0]
        measured[half_life_days] = holdout_ndcg(early, late, known, scores, seed)
    best = max(measured, key=lambda half_life_days: measured[half_life_days])
    return best, {f"{days:g}": figure for days, figure in measured.items()}


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
    tried: dict[str, float] = {}
    if "half_life_days" not in settings:
        settings["half_life_days"], tried = _choose_half_life(
            events, user_ids.tolist(), nearest, ranks, settings, options.seed
        )
    engaged = _engaged(events, user_ids.tolist(), settings, float(settings["half_life_days"]))
    options.progress(2, 2, "graph and engagement")
    card = ModelCard(
        model="network",
        owner="recommendations",
        summary="Personalised PageRank over ties between doctors; recent reads of the nearest",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters=settings | {"selection": {"ndcg_at_10_by_half_life_days": tried}},
        limitations="Knows only doctors with a tie at training time. The half-life was chosen "
        "by the selection's figures, on the last fifth of the events: they are optimistic.",
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
