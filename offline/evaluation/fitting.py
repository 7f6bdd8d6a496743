"""Trains a model for evaluation and makes a serving model of it, without publishing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recmesh.models.model import Model, Progress, TrainedModel, TrainOptions, silent
from recmesh.models.registry import loader, trainer
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
    """Trains a registered model.

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
    return trainer(name)(dataset, options)


def serving_model(trained: TrainedModel) -> Model:
    """The serving model of a training's result."""
    artifact = Artifact("unpublished", trained.card, trained.tensors, trained.strings)
    return loader(trained.card.model)(artifact)
