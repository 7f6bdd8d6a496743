"""What a model says of events that are later than all that it learned from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from recmesh.models.model import Float32, Progress, TrainedModel, TrainOptions
from recmesh.offline.evaluation.fitting import fit
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.offline.model_checks.model_folder import ModelFolder
from recmesh.offline.model_checks.result import NotCheckedError
from recmesh.offline.retraining.comparison import LEAST_USERS, period_to_judge
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, RecMeshError
from recmesh.storage.home import Home


@dataclass(frozen=True)
class JudgedPeriod:
    """Scores of a period that the model has seen nothing of."""

    period: Period
    scores: Float32
    """Raw ``[users, catalogue]``; NaN is no opinion."""
    as_served: bool
    """Whether the artifact itself was asked; else its training was repeated before the period."""


def trained(
    folder: ModelFolder,
    dataset: Dataset,
    until: datetime | None,
    home: Home,
    seed: int,
    progress: Progress,
    choices: dict[str, Any] | None = None,
) -> TrainedModel:
    """Trains a model as ``recmesh train`` does.

    Raises:
        NotCheckedError: there is not enough to learn from.
    """
    try:
        if registered(folder):
            return fit(
                folder.name,
                dataset,
                until=until,
                seed=seed,
                text_vectors=home.text_vectors,
                choices=choices,
                progress=progress,
            )
        return folder.train(dataset, TrainOptions(until, seed, progress, choices or {}))
    except DataError as error:
        raise NotCheckedError(f"the data set is too small to train on: {error}") from error


def registered(folder: ModelFolder) -> bool:
    """Whether its training is the registry's of that name."""
    try:
        return ModelFolder.of(folder.name).train is folder.train
    except RecMeshError:
        return False


def serving(folder: ModelFolder, made: TrainedModel) -> Any:
    """The serving model of a training's result."""
    return folder.load(Artifact("unpublished", made.card, made.tensors, made.strings))


def judged_period(
    folder: ModelFolder,
    dataset: Dataset,
    artifact: Artifact | None,
    home: Home,
    seed: int,
    progress: Progress,
) -> JudgedPeriod:
    """Of the artifact, on what came after it; where too little did, of its training repeated.

    Raises:
        NotCheckedError: the data set has too few users or events for that.
    """
    newest = artifact.card.newest_data if artifact else ""
    try:
        period, unseen = period_to_judge(
            dataset, None, datetime.fromisoformat(newest) if newest else None
        )
    except DataError as error:
        raise NotCheckedError(str(error)) from error
    if len(period.users) < LEAST_USERS:
        raise NotCheckedError(
            f"only {len(period.users)} users can be judged on later events; {LEAST_USERS} must"
        )
    if unseen and artifact is not None:
        model = folder.load(artifact)
    else:
        unseen = False
        made = trained(folder, period.known, period.known.moment, home, seed, progress)
        model = serving(folder, made)
    scores = served_scores(model, period, progress)
    if not np.isfinite(scores).any():
        raise NotCheckedError("it has no opinion on any user of the later events")
    return JudgedPeriod(period, scores, unseen)
