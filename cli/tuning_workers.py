"""Processes that work on one study together, on Ray."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError

from recmesh.deployments.ray_cluster import (
    OBJECT_STORE_BYTES,
    join_cluster,
    leave_cluster,
    start_cluster,
)
from recmesh.models.model import Progress
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.study import finished, open_study, run_trials
from recmesh.offline.tuning.trial import TrialRun
from recmesh.storage.errors import ConfigurationError, UnavailableError
from recmesh.storage.home import Home

START_S = 120.0
"""Until every worker has its CPU."""
LOOK_EVERY_S = 0.5
TRIES = 3
"""Of a worker that dies; the study keeps what it has tried."""


class TuningWorker:
    """A process that tries blends, on one CPU."""

    def __init__(self, journal: Path, sampler: str, metrics: Sequence[str], seed: int) -> None:
        self._study = open_study(journal, sampler, metrics, sampler, seed)

    def ready(self) -> None:
        """Returns once there is a worker."""

    def work(self, run: TrialRun, trials: int, start: Sequence[Parameters]) -> None:
        """Tries until the study has its trials."""
        run_trials(self._study, run, trials, start)


def search_on_ray(
    home: Home,
    address: str,
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

    Every worker has a seed of its own, so results depend on how they interleave. Nodes must see
    the journal's file.

    Args:
        home: folder of the installation.
        address: of a running Ray cluster; empty: one of this machine, for as long as it takes.
        run: fills the pages.
        journal: file of the study.
        sampler: of the study, whose name it is, too.
        seed: of the first worker.
        trials: that the study is to have.
        workers: how many; each takes one CPU.
        start: points to try first, in a new study.
        progress: told of finished trials.

    Raises:
        ConfigurationError: the cluster has no room for the workers.
        UnavailableError: the cluster cannot be joined, or workers die again and again.
    """
    if address:
        join_cluster(home, address, serving=False)
    else:
        room = max(OBJECT_STORE_BYTES, 2 * _size(run))
        start_cluster(home, workers, serving=False, object_store_bytes=room)
    try:
        shared = ray.put(run)
        worker = ray.remote(num_cpus=1, max_restarts=TRIES - 1, max_task_retries=TRIES - 1)(
            TuningWorker
        )
        own = journal.absolute()
        actors = [worker.remote(own, sampler, run.metrics, seed + n) for n in range(workers)]
        _check(actors)
        study = open_study(journal, sampler, run.metrics, sampler, seed)
        pending = [
            actor.work.remote(shared, trials, start if not n else ())
            for n, actor in enumerate(actors)
        ]
        while pending:
            done, pending = ray.wait(pending, timeout=LOOK_EVERY_S)
            ray.get(done)
            progress(min(len(finished(study)), trials), trials, "blends tried")
    except RayError as error:
        raise UnavailableError(
            f"workers died {TRIES} times ({type(error).__name__}); what was tried is kept, the "
            "same command goes on"
        ) from error
    finally:
        leave_cluster()


def _size(run: TrialRun) -> int:
    """Bytes of the scores that workers share."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(run, protocol=5, buffer_callback=arrays.append)
    return len(rest) + sum(array.raw().nbytes for array in arrays)


def _check(actors: Sequence[ray.actor.ActorHandle]) -> None:
    try:
        ray.get([actor.ready.remote() for actor in actors], timeout=START_S)
    except GetTimeoutError as error:
        free = ray.available_resources().get("CPU", 0.0)
        raise ConfigurationError(
            f"not all of {len(actors)} workers started within {START_S:.0f} s; each needs a CPU of "
            f"its own, and the Ray cluster has {free:g} left: use fewer with --workers"
        ) from error
