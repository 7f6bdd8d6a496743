"""Where candidates are trained: in this process, or as tasks on a Ray cluster, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from recmesh.deployments.ray_cluster import join_cluster, leave_cluster, start_cluster
from recmesh.models.model import Progress
from recmesh.offline.retraining.candidate import Candidate, train_candidate
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.home import Home

LOOK_EVERY_S = 0.5
TRIES = 3
"""Of a task whose worker dies."""


@dataclass(frozen=True, slots=True)
class Training:
    """What all candidates of a run are trained by. Folders must be seen by every node."""

    dataset: Dataset
    until: datetime | None
    seed: int
    studies: Path
    text_vectors: Path


class Trainer(Protocol):
    """Gives the candidates of one run, one after another."""

    def candidate(self, name: str, live: Artifact | None, progress: Progress) -> Candidate:
        """Trained and compared. Raises what training raises."""


def _trained(training: Training, name: str, live: Artifact | None, progress: Progress) -> Candidate:
    return train_candidate(
        name,
        training.dataset,
        live,
        until=training.until,
        seed=training.seed,
        studies=training.studies,
        text_vectors=training.text_vectors,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class InThisProcess:
    """Trains when it is asked."""

    training: Training

    def candidate(self, name: str, live: Artifact | None, progress: Progress) -> Candidate:
        """See :class:`Trainer`."""
        return _trained(self.training, name, live, progress)


def _task(training: Training, name: str, live: Artifact | None) -> Candidate:
    return _trained(training, name, live, lambda *_: None)


@dataclass(frozen=True, slots=True)
class OnRay:
    """Trains all at once, a task with a CPU of its own each."""

    pending: Mapping[str, Any]

    def candidate(self, name: str, live: Artifact | None, progress: Progress) -> Candidate:
        """See :class:`Trainer`."""
        task = self.pending[name]
        looks = 0
        while not ray.wait([task], timeout=LOOK_EVERY_S)[0]:
            looks += 1
            progress(0, 1, f"on Ray for {looks * LOOK_EVERY_S:.0f} s")
        try:
            found: Candidate = ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, RecMeshError):
                raise error.cause from error
            raise
        except RayError as error:
            raise UnavailableError(
                f"training {name} on Ray ended {TRIES} times ({type(error).__name__}); the same "
                f"command goes on"
            ) from error
        return found


@contextmanager
def trainer_on_ray(
    home: Home, address: str, training: Training, live: Mapping[str, Artifact | None]
) -> Iterator[OnRay]:
    """Starts training the models of ``live``, and gives the candidates while the context is open.

    Args:
        home: folder of the installation.
        address: of a running cluster; empty: one of this machine, for as long as it takes.
        training: what all are trained by.
        live: by model, what serves now.

    Raises:
        UnavailableError: the cluster cannot be joined.
    """
    if address:
        join_cluster(home, address, serving=False)
    else:
        start_cluster(home, 0, serving=False)
    try:
        shared = ray.put(training)
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_task)
        yield OnRay({name: task.remote(shared, name, one) for name, one in live.items()})
    finally:
        leave_cluster()
