"""Searches the parameters that a model's owner declares, with Optuna.

Every trial trains before a period and is judged on it; the period is the last tenth of the events
that are earlier than the test by which the candidate is compared with the live version, so that
nothing is chosen by what it is judged on. A search that was stopped goes on where it was; equal
data, code, seed and declaration give an equal choice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from recmesh.models.declaration import Choice, Search
from recmesh.models.model import Progress, silent
from recmesh.models.registry import code_version
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.holdout import last_period
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.offline.metrics.relevance import ndcg
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, RecMeshError

K = 10
STARTUP = 8
"""Trials drawn at random before the sampler learns from them (Bergstra et al., NIPS 2011)."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found."""

    parameters: dict[str, Any]
    ndcg_at_10: float
    """Of the best trial, on the period that it was chosen by: optimistic."""
    trials: int
    """That could be judged."""


def search_parameters(
    name: str,
    search: Search,
    dataset: Dataset,
    folder: Path,
    *,
    until: datetime,
    seed: int,
    text_vectors: Path | None = None,
    decided: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Searched:
    """The parameters with the best nDCG@10 of ``search.trials`` trainings.

    Args:
        name: of the registry.
        search: what to search, and how often.
        dataset: to learn from.
        folder: where the study is kept, so that a search that was stopped goes on.
        until: the moment from which on the candidate will be judged.
        seed: of all randomness.
        text_vectors: folder where vectors of unchanged texts are kept between trainings.
        decided: parameters that are not searched.
        progress: told how many trials are done.

    Raises:
        DataError: the data set is too small, or no trial could be judged.
    """
    judged_on = last_period(dataset, until)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    of = (dataset.version, until.isoformat(), str(seed), code_version(name), repr(decided))
    key = hashlib.sha256("\0".join(of).encode()).hexdigest()[:16]
    study = optuna.create_study(
        study_name=f"{name}-{key}",
        storage=JournalStorage(JournalFileBackend(str(folder / f"{name}-{key}.log"))),
        direction="maximize",
        load_if_exists=True,
    )
    for stopped in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stopped.number, state=TrialState.FAIL)

    def quality(trial: Trial) -> float:
        parameters = (decided or {}) | suggested(trial, search)
        trained = fit(
            name,
            judged_on.known,
            until=judged_on.known.moment,
            seed=seed,
            text_vectors=text_vectors,
            choices=parameters,
        )
        return mean_ndcg(served_scores(serving_model(trained), judged_on), judged_on)

    while (done := len(judged(study))) < search.trials:
        progress(done, search.trials, "trials")
        attempts = len(study.get_trials(deepcopy=False))
        if attempts >= 2 * search.trials:
            break
        # A sampler of its own for every trial: a search that goes on draws what it would have.
        study.sampler = optuna.samplers.TPESampler(seed=seed + done, n_startup_trials=STARTUP)
        trial = study.ask()
        try:
            study.tell(trial, quality(trial))
        except RecMeshError:
            study.tell(trial, state=TrialState.FAIL)
    finished = judged(study)
    if not finished:
        raise DataError(f"no trial of the search over {', '.join(search.parameters)} could train")
    best = max(finished, key=lambda found: (found.value, -found.number))
    return Searched(dict(best.params), float(best.value or 0.0), len(finished))


def judged(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that have a value."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def suggested(trial: Trial, search: Search) -> dict[str, Any]:
    """Parameters of one trial."""
    found: dict[str, Any] = {}
    for name, space in search.parameters.items():
        if isinstance(space, Choice):
            found[name] = trial.suggest_categorical(name, space.choices)
        elif space.whole:
            found[name] = trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
        else:
            found[name] = trial.suggest_float(name, space.low, space.high, log=space.log)
    return found


def mean_ndcg(scores: np.ndarray[Any, np.dtype[np.float32]], of: Period) -> float:
    """Mean nDCG@10 over users that the model has an opinion on; 0 where there is none."""
    users = np.isfinite(scores).any(axis=1)
    if not users.any():
        return 0.0
    best = top_items(scores, of.seen, K)[users]
    return float(ndcg(hits_of(best, of.wanted[users]), wanted_counts(of.wanted)[users]).mean())
