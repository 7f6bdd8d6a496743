"""What a model's card says of its quality: figures and calibration of a temporal holdout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recmesh.models.interactions import Interactions, read_interactions
from recmesh.models.model import Float32, Progress, TrainedModel, silent
from recmesh.offline.evaluation.baselines import popularity
from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.evaluation.calibration_fit import calibration_of
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.offline.evaluation.temporal_split import EarlierDataset, quantile_moment
from recmesh.offline.metrics.exposure import coverage, exposure
from recmesh.offline.metrics.relevance import Float64, ndcg, recall
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

LAST = 0.1
"""Share of the positive events, by time, that is held out."""
K = 10
SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Holdout:
    """A model's figures and calibration."""

    metrics: dict[str, Any]
    calibration: dict[str, list[float]]
    """As in :class:`~recmesh.storage.artifacts.ModelCard`; empty when none could be fitted."""
    choices: dict[str, Any]
    """Parameters that training before the holdout chose, with the figures that it chose by."""

    def on(self, trained: TrainedModel) -> TrainedModel:
        """``trained``, with these choices, and with this on its card."""
        card = replace(
            trained.card,
            metrics=self.metrics,
            calibration=self.calibration,
            parameters=trained.card.parameters | self.choices,
        )
        return replace(trained, card=card)


def held_out(
    name: str,
    dataset: Dataset,
    *,
    until: datetime | None,
    seed: int,
    text_vectors: Path | None = None,
    choices: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Holdout:
    """Trains before the last tenth of the positive events and judges on that tenth.

    Takes the arguments of :func:`~recmesh.offline.evaluation.fitting.fit`.

    Raises:
        DataError: the data set is too small, or the model has no opinion on any user.
    """
    judged_on = last_period(dataset, until)
    trained = fit(
        name,
        judged_on.known,
        until=judged_on.known.moment,
        seed=seed,
        text_vectors=text_vectors,
        choices=choices,
        progress=progress,
    )
    raw = served_scores(serving_model(trained), judged_on, progress)
    return measured(trained, raw, judged_on, seed)


def last_period(dataset: Dataset, until: datetime | None) -> Period:
    """The last tenth of the positive events before ``until``.

    Raises:
        DataError: the data set is too small to split.
    """
    if until is not None:
        dataset = EarlierDataset.of(dataset, until)
    events = read_interactions(dataset)
    start = quantile_moment(events, LAST)
    return period(dataset, start, just_after(events))


def just_after(events: Interactions) -> datetime:
    """The first whole second after the last of at least one event."""
    return datetime.fromtimestamp(int(events.times_unix_s[-1]) + 1, UTC)


def measured(trained: TrainedModel, raw: Float32, judged_on: Period, seed: int) -> Holdout:
    """What a period shows of a model that was trained before it.

    Args:
        trained: the model.
        raw: its scores ``[users, catalogue]`` of :func:`served_scores`.
        judged_on: the period.
        seed: of the bootstrap.

    Raises:
        DataError: the model has no opinion on any user.
    """
    if not np.isfinite(raw).any():
        raise DataError("it has no opinion on any user of the holdout")
    fitted = calibration_of(raw, judged_on)
    calibration = (
        {
            "raw_scores": fitted.raw_scores.tolist(),
            "probabilities": fitted.probabilities.tolist(),
        }
        if fitted is not None
        else {}
    )
    metrics = _metrics(raw, judged_on, seed)
    return Holdout(metrics, calibration, trained.card.parameters)


def _metrics(raw: Float32, of: Period, seed: int) -> dict[str, Any]:
    """Means over the users that the model has an opinion on."""
    users = np.isfinite(raw).any(axis=1)
    n_wanted = wanted_counts(of.wanted)

    def judged(scores: Float32) -> tuple[float, Float64, Float64]:
        best = top_items(scores, of.seen, K)[users]
        hits = hits_of(best, of.wanted[users])
        shown = np.asarray(exposure(best, len(of.catalogue)).sum(axis=0)).ravel()
        counts = n_wanted[users]
        return float(coverage(shown)), ndcg(hits, counts), recall(hits, counts)

    covered, own, recalled = judged(raw)
    _, popular, _ = judged(np.broadcast_to(popularity(of), raw.shape))
    interval = UserBootstrap(int(users.sum()), SAMPLES, seed).mean(own)
    return {
        "holdout_start": of.known.moment.isoformat(),
        "users": int(users.sum()),
        "ndcg_at_10": round(interval.value, 4),
        "ndcg_at_10_interval": [round(interval.low, 4), round(interval.high, 4)],
        "popularity_ndcg_at_10": round(float(popular.mean()), 4),
        "recall_at_10": round(float(recalled.mean()), 4),
        "coverage_at_10": round(covered, 4),
    }
