"""An encoder on several Ray workers: texts are embedded wherever there is a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util import ActorPool

from recmesh.deployments.ray_cluster import join_cluster, leave_cluster, start_cluster
from recmesh.models.model import Float32
from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.vector_cache import EmbedParts
from recmesh.storage.errors import ConfigurationError, UnavailableError
from recmesh.storage.home import Home

START_S = 120.0
"""Until every worker has its CPU and its weights."""
TRIES = 3
"""Of a part whose worker dies."""


class EncoderWorker:
    """An encoder in a process of its own, on one CPU."""

    def __init__(self, choice: str) -> None:
        self._encoder = Encoder.choose(choice)

    def version(self) -> str:
        """Loads the weights and names them."""
        self._encoder.encode(["warm up"])
        return self._encoder.version

    def embed(self, number: int, texts: Sequence[str]) -> tuple[int, Float32]:
        """A part's number, and its vectors ``[len(texts), dim]``."""
        return number, self._encoder.encode(texts)


@contextmanager
def encoder_pool(home: Home, address: str, choice: str, workers: int) -> Iterator[EmbedParts]:
    """Embeds parts of texts on workers while the context is open.

    A worker that dies is replaced, and its part is embedded again. Nodes need the encoder where
    this process has it: the packaged one, or a folder that all share.

    Args:
        home: folder of the installation.
        address: of a running Ray cluster; empty: one of this machine, started for this.
        choice: the encoder.
        workers: how many; each takes one CPU.

    Raises:
        ConfigurationError: the cluster has no room for them, or a node has other weights.
        UnavailableError: the cluster cannot be joined.
    """
    if address:
        join_cluster(home, address, serving=False)
    else:
        start_cluster(home, workers, serving=False)
    try:
        worker = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(EncoderWorker)
        actors = [worker.remote(choice) for _ in range(workers)]
        _check(actors, Encoder.choose(choice).version)

        def embed_parts(parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, Float32]]:
            pool = ActorPool(actors)
            for number, texts in enumerate(parts):
                pool.submit(lambda actor, part: actor.embed.remote(*part), (number, texts))
            try:
                while pool.has_next():
                    yield pool.get_next_unordered()
            except RayError as error:
                raise UnavailableError(
                    f"workers that embed died {TRIES} times over one part "
                    f"({type(error).__name__}); what was embedded is kept"
                ) from error

        yield embed_parts
    finally:
        leave_cluster()


def _check(actors: Sequence[ray.actor.ActorHandle], version: str) -> None:
    try:
        found = set(ray.get([actor.version.remote() for actor in actors], timeout=START_S))
    except GetTimeoutError as error:
        free = ray.available_resources().get("CPU", 0.0)
        raise ConfigurationError(
            f"not all of {len(actors)} workers started within {START_S:.0f} s; each needs a CPU of "
            f"its own, and the Ray cluster has {free:g} left: use fewer with --workers"
        ) from error
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnavailableError(f"a worker cannot load the encoder: {reason}") from error
    if found != {version}:
        raise ConfigurationError(
            f"the workers' encoder is {', '.join(sorted(found))}, this process has {version}; "
            "install the same on every node"
        )
