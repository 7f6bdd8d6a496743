"""Trains collaborative filtering: settings are chosen on the last fifth of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.cf.als import fit_als
from recmesh.models.cf.ease import fit_ease
from recmesh.models.cf.model import Scorer
from recmesh.models.holdout_quality import holdout_ndcg
from recmesh.models.interactions import Interactions, event_weights, read_interactions
from recmesh.models.model import Float32, TrainedModel, TrainOptions
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

HOLDOUT = 0.2
SERVED_HISTORY = 128  # events of a user that a request carries
DEFAULTS: dict[str, Any] = {
    "type_weights": {},  # all 1: counting saves and shares double measured worse
    "largest_ease": 12_000,  # items; the closed form is cubic in them: 20 s, 0.6 GB
    "factors": 64,
    "confidence": 40.0,
}
HALF_LIVES_DAYS = (0.0, 30.0, 180.0)
EASE_REGULARISATIONS = (100.0, 250.0, 500.0)
ALS_REGULARISATIONS = (0.05, 10.0)
MOST_TRIED = (
    len(EASE_REGULARISATIONS) + len(ALS_REGULARISATIONS) + 2 * (len(HALF_LIVES_DAYS) - 1) + 1
)


CHOSEN = ("algorithm", "regularisation", "half_life_days")


def _choose(
    settings: dict[str, Any], n_items: int, quality: Callable[[dict[str, Any]], float]
) -> tuple[dict[str, Any], float, int]:
    """The best settings by ``quality``, that quality, and how many were tried.

    For each algorithm, the regularisation is chosen without decay and then the decay, which
    takes fewer fits than a grid. What the caller gave is kept.
    """
    algorithms = {"ease": EASE_REGULARISATIONS, "als": ALS_REGULARISATIONS}
    if "algorithm" in settings:
        algorithms = {settings["algorithm"]: algorithms[settings["algorithm"]]}
    elif n_items > settings["largest_ease"]:
        del algorithms["ease"]
    fixed_decay = settings.get("half_life_days")
    tried: list[tuple[float, dict[str, Any]]] = []

    if all(name in settings for name in CHOSEN):
        return settings, 0.0, 0

    def attempt(algorithm: str, regularisation: float, half_life_days: float) -> float:
        candidate = settings | {
            "algorithm": algorithm,
            "regularisation": regularisation,
            "half_life_days": half_life_days,
        }
        tried.append((quality(candidate), candidate))
        return tried[-1][0]

    for algorithm, regularisations in algorithms.items():
        given = settings.get("regularisation")
        levels = regularisations if given is None else (float(given),)
        start = HALF_LIVES_DAYS[0] if fixed_decay is None else float(fixed_decay)
        reached = [attempt(algorithm, level, start) for level in levels]
        if fixed_decay is None:
            level = levels[int(np.argmax(reached))]
            for half_life in HALF_LIVES_DAYS[1:]:
                attempt(algorithm, level, half_life)
    best_quality, best = max(tried, key=lambda attempted: attempted[0])
    return best, best_quality, len(tried)


def _weights(events: Interactions, settings: dict[str, Any]) -> Float32:
    return event_weights(
        events.event_types,
        events.times_unix_s,
        int(events.times_unix_s[-1]),
        settings["type_weights"],
        settings["half_life_days"],
    )


def _fit(events: Interactions, settings: dict[str, Any], seed: int) -> npt.NDArray[Any]:
    """The model's tensor."""
    matrix = events.matrix(_weights(events, settings))
    regularisation = float(settings["regularisation"])
    if settings["algorithm"] == "ease":
        return fit_ease(matrix, regularisation).astype(np.float16)
    return fit_als(matrix, settings["factors"], regularisation, settings["confidence"], seed)


def _as_served(events: Interactions) -> npt.NDArray[np.bool_]:
    """The events that a request would carry ``[n]``: every user's last 128."""
    order = np.argsort(events.users, kind="stable")
    counts = np.bincount(events.users, minlength=len(events.user_ids))
    until_last = np.repeat(np.cumsum(counts), counts) - np.arange(len(events))
    carried = np.empty(len(events), bool)
    carried[order] = until_last <= SERVED_HISTORY
    return carried


def _holdout_ndcg(
    early: Interactions, late: Interactions, settings: dict[str, Any], seed: int
) -> float:
    """Mean nDCG@10 of the settings fitted to ``early``, on users with early and late events."""
    scorer = Scorer(_fit(early, settings, seed), settings)
    carried = _as_served(early)
    histories = early.where(carried).matrix(_weights(early, settings)[carried])

    def scores(user: int) -> Float32:
        history = histories[user]
        return scorer(history.indices.astype(np.int64), history.data)

    return holdout_ndcg(early, late, np.intersect1d(early.users, late.users), scores, seed)


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """Chooses algorithm, decay and regularisation, then fits all events before ``until``.

    Raises:
        DataError: there is no positive event to learn from.
    """
    events = read_interactions(dataset, options.until)
    if not len(events):
        raise DataError("collaborative filtering needs positive events on items; there are none")
    early, late = events.split(HOLDOUT)
    tried = 0

    def quality(settings: dict[str, Any]) -> float:
        nonlocal tried
        options.progress(tried, MOST_TRIED, "settings tried")
        tried += 1
        return _holdout_ndcg(early, late, settings, options.seed) if len(early) else 0.0

    best, measured, number = _choose(DEFAULTS | options.parameters, len(events.item_ids), quality)
    options.progress(MOST_TRIED - 1, MOST_TRIED, "settings tried")
    tensor = _fit(events, best, options.seed)
    options.progress(MOST_TRIED, MOST_TRIED, "settings tried")
    card = ModelCard(
        model="cf",
        owner="recommendations",
        summary="Collaborative filtering over positive events (EASE or implicit ALS)",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters=best | {"selection": {"ndcg_at_10": measured, "settings_tried": number}},
        limitations="Knows no item without events. The selection's figure is of the settings "
        "fitted before the last fifth of events; it chose among them, so it is optimistic.",
    )
    return TrainedModel(card, {"items": tensor}, {"item_ids": events.item_ids})
