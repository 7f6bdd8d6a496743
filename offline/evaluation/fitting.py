"""Trains a model for evaluation and makes a serving model of it, without publishing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.models.model import Model, Progress, TrainedModel, TrainOptions, silent
from recmesh.models.registry import code_version, loader, trainer
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset


def fit(
    name: str,
    dataset: Dataset,
    *,
    until: datetime | None,
    seed: int,
    text_vectors: Path | None = None,
    choices: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> TrainedModel:
    """Trains a registered model; its card says with which code, and how new its data is.

    Args:
        name: of the registry.
        dataset: to learn from.
        until: no event at or after this moment is used; None: all are.
        seed: of all randomness.
        choices: parameters of an earlier training's card, which are kept instead of chosen anew.
        text_vectors: folder where vectors of unchanged texts are kept between trainings.
        progress: told how far it is.
    """
    parameters = dict(choices or {})
    if name == "nlp" and text_vectors is not None:
        parameters["cache"] = str(text_vectors)
    options = TrainOptions(until=until, seed=seed, progress=progress, parameters=parameters)
    trained = trainer(name)(dataset, options)
    newest = newest_moment(dataset, until)
    card = replace(
        trained.card,
        code_version=code_version(name),
        newest_data=newest.isoformat() if newest else "",
    )
    return replace(trained, card=card)


def newest_moment(dataset: Dataset, until: datetime | None = None) -> datetime | None:
    """When the last event or dated edge before ``until`` happened; None: there is none."""
    newest = None
    for times in (dataset.events["time"], dataset.edges["created_at"]):
        if until is not None:
            times = times.filter(pc.less(times, pa.scalar(until, times.type)))
        last = pc.max(times).cast(pa.int64()).as_py()
        if last is not None:
            moment = datetime.fromtimestamp(last / 1000, UTC)
            newest = max(newest, moment) if newest else moment
    return newest


def serving_model(trained: TrainedModel) -> Model:
    """The serving model of a training's result."""
    artifact = Artifact("unpublished", trained.card, trained.tensors, trained.strings)
    return loader(trained.card.model)(artifact)
