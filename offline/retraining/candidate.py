"""A candidate: trained on everything, and compared with the live version before that."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from recmesh.models.model import Float32, Progress, TrainedModel, silent
from recmesh.models.nlp.encoder import ENVIRONMENT
from recmesh.models.registry import declaration, loader
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.holdout import measured
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.offline.retraining.comparison import (
    Comparison,
    Protocol,
    compared,
    period_to_judge,
)
from recmesh.offline.retraining.parameter_search import Searched, search_parameters
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import RecMeshError


@dataclass(frozen=True, slots=True)
class Candidate:
    """What training yields, and how its way of training compares."""

    trained: TrainedModel
    comparison: Comparison


def kept_decisions(name: str, live: Artifact | None) -> dict[str, Any]:
    """What the owner decided and training does not choose: the language model's encoder.

    ``$RECMESH_ENCODER`` is a newer decision than the live version's.
    """
    if name != EMBEDDER or live is None or os.environ.get(ENVIRONMENT):
        return {}
    decided = ("encoder", "dim")
    return {key: live.card.parameters[key] for key in decided if key in live.card.parameters}


def train_candidate(
    name: str,
    dataset: Dataset,
    live: Artifact | None,
    *,
    until: datetime | None,
    seed: int,
    studies: Path,
    text_vectors: Path | None = None,
    progress: Progress = silent,
) -> Candidate:
    """Trains before a period, compares on it, then trains on everything with what was chosen.

    Parameters that the model's owner declares are searched first, on what came before the period.

    Args:
        name: of the registry.
        dataset: to learn from.
        live: what serves now; None: nothing.
        until: no event at or after this moment is used; None: all are.
        seed: of all randomness.
        studies: folder where searches of parameters are kept.
        text_vectors: folder where vectors of unchanged texts are kept between trainings.
        progress: told how far it is.

    Raises:
        DataError: the data set is too small, or the model has no opinion on any user.
    """

    def stage(what: str) -> Progress:
        return lambda done, total, unit: progress(done, total, f"{what}, {unit}")

    decisions = kept_decisions(name, live)
    judged_on, unseen = period_to_judge(dataset, until, _newest(live))
    search = declaration(name).search
    found: Searched | None = None
    if search.trials:
        found = search_parameters(
            name,
            search,
            dataset,
            studies,
            until=judged_on.known.moment,
            seed=seed,
            text_vectors=text_vectors,
            decided=decisions,
            progress=stage("search"),
        )
        decisions = decisions | found.parameters
    challenger = fit(
        name,
        judged_on.known,
        until=judged_on.known.moment,
        seed=seed,
        text_vectors=text_vectors,
        choices=decisions,
        progress=stage("before the test"),
    )
    ours = served_scores(serving_model(challenger), judged_on, stage("test"))
    holdout = measured(challenger, ours, judged_on, seed)
    protocol, theirs, why = _live_scores(
        live, judged_on, unseen, text_vectors, stage("live version")
    )
    comparison = compared(judged_on, ours, theirs, protocol=protocol, seed=seed, why=why)
    trained = fit(
        name,
        dataset,
        until=until,
        seed=seed,
        text_vectors=text_vectors,
        choices=holdout.choices | decisions,
        progress=stage("everything"),
    )
    return Candidate(_searched(holdout.on(trained), found), comparison)


def _searched(trained: TrainedModel, found: Searched | None) -> TrainedModel:
    if found is None:
        return trained
    said = {"searched": {"trials": found.trials, "ndcg_at_10": round(found.ndcg_at_10, 4)}}
    parameters = trained.card.parameters | found.parameters | said
    return replace(trained, card=replace(trained.card, parameters=parameters))


def _newest(live: Artifact | None) -> datetime | None:
    if live is None or not live.card.newest_data:
        return None
    return datetime.fromisoformat(live.card.newest_data)


def _live_scores(
    live: Artifact | None,
    judged_on: Period,
    unseen: bool,
    text_vectors: Path | None,
    progress: Progress,
) -> tuple[Protocol, Float32 | None, str]:
    """How the live version can be judged, its scores, and why not."""
    if live is None:
        return Protocol.FIRST, None, ""
    name = live.card.model
    try:
        if unseen:
            model = loader(name)(live)
            return Protocol.AS_SERVED, served_scores(model, judged_on, progress), ""
        champion = fit(
            name,
            judged_on.known,
            until=judged_on.known.moment,
            seed=live.card.seed,
            text_vectors=text_vectors,
            choices=live.card.parameters,
            progress=progress,
        )
        scores = served_scores(serving_model(champion), judged_on, progress)
    except RecMeshError as error:
        return Protocol.IMPOSSIBLE, None, str(error)
    return Protocol.RETRAINED, scores, ""
