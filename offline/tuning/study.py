"""The search for a surface's front: an Optuna study that is kept, resumed and shared.

Trials are kept in a journal file, so a study goes on where it was stopped or killed, and several
processes may work on one. Equal trials, seed and sampler give equal results in one process;
several interleave as they come.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from recmesh.models.model import Progress, silent
from recmesh.offline.tuning.candidates import Float64
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.trial import TrialRun
from recmesh.storage.errors import ConfigurationError

POPULATION = 40

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(population_size=POPULATION, seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=POPULATION),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=POPULATION),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Samplers by name; compared by ``python benchmarks/tuning_samplers.py``."""
DEFAULT_SAMPLER = "tpe"


@dataclass(frozen=True)
class Tried:
    """Everything a study has tried."""

    parameters: list[Parameters]
    values: Float64
    """Mean metrics ``[trials, metrics]``."""


def open_study(
    file: Path, name: str, metrics: Sequence[str], sampler: str, seed: int
) -> optuna.Study:
    """The study of that name in a journal file, made when it is not there.

    Raises:
        ConfigurationError: there is no such sampler.
    """
    if sampler not in SAMPLERS:
        raise ConfigurationError(f"no sampler {sampler!r}; there are {', '.join(SAMPLERS)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(file))),
            study_name=name,
            sampler=SAMPLERS[sampler](seed),
            directions=["maximize"] * len(metrics),
            load_if_exists=True,
        )
        study.set_metric_names(list(metrics))
    return study


def run_trials(
    study: optuna.Study,
    run: TrialRun,
    trials: int,
    start: Sequence[Parameters] = (),
    progress: Progress = silent,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Tries until the study has ``trials`` finished ones, whoever made them.

    Args:
        study: of :func:`open_study`.
        run: fills the pages.
        trials: that the study is to have.
        start: points to try first, in a new study.
        progress: told of finished trials.
        stopped: asked after every trial; what was tried is kept.
    """
    if not study.trials:
        for parameters in start:
            study.enqueue_trial(run.space.as_trial(parameters))

    def objective(trial: optuna.Trial) -> Sequence[float]:
        return [float(value) for value in run(run.space.suggested(trial)).mean(axis=0)]

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        progress(min(trial.number + 1, trials), trials, "blends tried")
        if trial.number + 1 >= trials or stopped():
            study.stop()

    remaining = trials - len(finished(study))
    if remaining > 0:
        study.optimize(objective, n_trials=remaining, callbacks=[after])


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that have values."""
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def tried(study: optuna.Study, run: TrialRun) -> Tried:
    """What the study has tried so far."""
    done = finished(study)
    parameters = [
        run.space.suggested(
            optuna.trial.FixedTrial(trial.params)  # type: ignore[arg-type] # asks the same way
        )
        for trial in done
    ]
    values = np.array([trial.values for trial in done], np.float64)
    return Tried(parameters, values.reshape(len(done), len(run.metrics)))
