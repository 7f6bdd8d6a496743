"""Processes that work on one study together, on Ray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from recmesh.models.model import Progress
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.study import finished, open_study, run_trials
from recmesh.offline.tuning.trial import TrialRun

LOOK_EVERY_S = 0.5


def _work(
    run: TrialRun,
    journal: str,
    sampler: str,
    seed: int,
    trials: int,
    start: Sequence[Parameters],
) -> None:
    study = open_study(Path(journal), sampler, run.metrics, sampler, seed)
    run_trials(study, run, trials, start)


def search_on_ray(
    run: TrialRun,
    journal: Path,
    sampler: str,
    seed: int,
    trials: int,
    workers: int,
    start: Sequence[Parameters],
    progress: Progress,
) -> None:
    """Brings a study to its trials by ``workers`` processes that share one copy of the scores.

    Uses the Ray cluster of ``$RAY_ADDRESS``, or starts one on this machine for as long as it
    takes. Every worker has a seed of its own, so results depend on how they interleave.
    """
    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
    try:
        shared = ray.put(run)
        task: Any = ray.remote(num_cpus=1)(_work)
        study = open_study(journal, sampler, run.metrics, sampler, seed)
        pending = [
            task.remote(
                shared, str(journal), sampler, seed + number, trials, start if number == 0 else ()
            )
            for number in range(workers)
        ]
        while pending:
            done, pending = ray.wait(pending, timeout=LOOK_EVERY_S)
            ray.get(done)
            progress(min(len(finished(study)), trials), trials, "blends tried")
            time.sleep(LOOK_EVERY_S)
    finally:
        if mine:
            ray.shutdown()
