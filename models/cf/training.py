"""Trains collaborative filtering: settings are chosen on the last tenth of the events."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.cf.als import fit_als
from recmesh.models.cf.ease import fit_ease
from recmesh.models.cf.model import Scorer
from recmesh.models.interactions import Interactions, event_weights, read_interactions
from recmesh.models.model import TrainedModel, TrainOptions
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

HOLDOUT = 0.1
JUDGED_USERS = 500
DEFAULTS: dict[str, Any] = {
    "type_weights": {"click": 1.0, "dwell": 1.0, "save": 2.0, "share": 2.0, "swipe": 1.0},
    "largest_ease": 10_000,  # items; the closed form is cubic in them
    "factors": 64,
    "confidence": 40.0,
}
HALF_LIVES_DAYS = (0.0, 180.0)
EASE_REGULARISATIONS = (50.0, 250.0, 1000.0)
ALS_REGULARISATIONS = (0.05, 10.0)


def _candidates(settings: dict[str, Any], n_items: int) -> list[dict[str, Any]]:
    """Every setting worth measuring; settings given by the caller are not varied."""
    half_lives = [settings["half_life_days"]] if "half_life_days" in settings else HALF_LIVES_DAYS
    algorithms = {"ease": EASE_REGULARISATIONS, "als": ALS_REGULARISATIONS}
    if "algorithm" in settings:
        algorithms = {settings["algorithm"]: algorithms[settings["algorithm"]]}
    elif n_items > settings["largest_ease"]:
        del algorithms["ease"]
    return [
        settings
        | {"algorithm": name, "half_life_days": half_life}
        | {"regularisation": regularisation}
        for name, regularisations in algorithms.items()
        for half_life in half_lives
        for regularisation in (
            [settings["regularisation"]] if "regularisation" in settings else regularisations
        )
    ]


def _fit(events: Interactions, settings: dict[str, Any], seed: int) -> tuple[npt.NDArray[Any], Any]:
    """The model's tensor, and the weighted user-by-item matrix it was fitted on."""
    weights = event_weights(
        events.event_types,
        events.times_unix_s,
        int(events.times_unix_s[-1]),
        settings["type_weights"],
        settings["half_life_days"],
    )
    matrix = events.matrix(weights)
    regularisation = float(settings["regularisation"])
    if settings["algorithm"] == "ease":
        return fit_ease(matrix, regularisation).astype(np.float16), matrix
    factors = fit_als(matrix, settings["factors"], regularisation, settings["confidence"], seed)
    return factors, matrix


def _holdout_ndcg(
    early: Interactions, late: Interactions, settings: dict[str, Any], seed: int
) -> float:
    """Mean nDCG@10 over users with early and late events; full ranking, seen removed."""
    tensor, matrix = _fit(early, settings, seed)
    scorer = Scorer(tensor, settings)
    wanted = late.matrix(np.ones(len(late), np.float32))
    users = np.intersect1d(early.users, late.users)
    if len(users) > JUDGED_USERS:
        users = np.random.default_rng(seed).choice(users, JUDGED_USERS, replace=False)
    discounts = 1 / np.log2(np.arange(2, 12))
    values = []
    for user in users:
        seen, row = matrix[user].indices, matrix[user].data
        fresh = np.setdiff1d(wanted[user].indices, seen)
        if not len(fresh):
            continue
        scores = scorer(seen.astype(np.int64), row)
        scores[seen] = -np.inf
        hits = np.isin(np.argsort(-scores, kind="stable")[:10], fresh)
        ideal = discounts[: len(fresh)].sum()
        values.append(float(discounts[: len(hits)][hits].sum() / ideal))
    return float(np.mean(values)) if values else 0.0


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """Chooses algorithm, decay and regularisation, then fits all events before ``until``.

    Raises:
        DataError: there is no positive event to learn from.
    """
    events = read_interactions(dataset, options.until)
    if not len(events):
        raise DataError("collaborative filtering needs positive events on items; there are none")
    candidates = _candidates(DEFAULTS | options.parameters, len(events.item_ids))
    early, late = events.split(HOLDOUT)
    measured: list[float] = []
    for number, settings in enumerate(candidates):
        options.progress(number, len(candidates) + 1, "settings tried")
        measured.append(_holdout_ndcg(early, late, settings, options.seed) if len(early) else 0.0)
    best = int(np.argmax(measured))
    tensor, _ = _fit(events, candidates[best], options.seed)
    options.progress(len(candidates) + 1, len(candidates) + 1, "settings tried")
    card = ModelCard(
        model="cf",
        owner="recommendations",
        summary="Collaborative filtering over positive events (EASE or implicit ALS)",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters=candidates[best],
        metrics={"selection_ndcg_at_10": measured[best], "settings_tried": len(candidates)},
        limitations="Knows no item without events. The metric is of the settings fitted "
        "before the last tenth of events; it chose among them, so it is optimistic.",
    )
    return TrainedModel(card, {"items": tensor}, {"item_ids": events.item_ids})
