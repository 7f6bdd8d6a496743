"""A switch of embedding versions under steady load: ``python -m benchmarks.embedding_switch``.

Needs a running mesh (``recmesh up``) of the same home folder. Builds and verifies a version of
``--dim`` dimensions beside the live one and makes it live; then, while requests come in at a
steady rate whether or not earlier ones were answered, switches to the full one and rolls back.
Checks every answer: it did not fail, nothing answered wrongly or was left out, and its embedding
version is one of the two, changing once for each switch. Prints one JSON object; exits with 1
when a check failed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

import grpc
import grpc.aio
import numpy as np

from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingRegistry
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

DEADLINE_S = 1.0
NEVER_THERE = "not deployed in this mesh"
"""What a page says of a model that was not trained: no switch has to do with it."""
PHASE_S = 5.0
"""Before, between and after the switches."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outcome, in the order of asking."""

    asked_s: float
    took_s: float
    failure: str
    embedding: str
    lacks: tuple[str, ...]


def recmesh(*words: str) -> dict[str, object]:
    """Runs a command of the command line and returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "recmesh.cli.main", *words, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    said: dict[str, object] = json.loads(done.stdout)
    return said


def requests(dataset: Dataset) -> list[recommendation_pb2.RecommendRequest]:
    """Feeds of doctors, and searches for titles."""
    users = dataset.users["user_id"].to_pylist()[:200]
    titles = dataset.items["title"].to_pylist()[:200]
    made = []
    for user, title in zip(users, titles, strict=False):
        made.append(recommendation_pb2.RecommendRequest(surface="feed", user_id=user))
        made.append(
            recommendation_pb2.RecommendRequest(surface="search", user_id=user, query=title)
        )
    return made


class SteadyLoad:
    """Asks ``per_second`` times a second until stopped."""

    def __init__(
        self, address: str, per_second: float, asked: list[recommendation_pb2.RecommendRequest]
    ) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        self._interval_s = 1.0 / per_second
        self._asked = asked
        self._calls: list[asyncio.Task[Answer]] = []

    async def _one(self, request: recommendation_pb2.RecommendRequest) -> Answer:
        asked_s = time.monotonic()
        failure, embedding, lacks = "", "", ()
        try:
            page = await self._stub.Recommend(request, timeout=DEADLINE_S)
            embedding = page.versions.embedding
            lacks = tuple(
                sorted(
                    f"{lost.component}: {lost.reason}"
                    for lost in page.degradations
                    if lost.reason != NEVER_THERE
                )
            )
        except grpc.aio.AioRpcError as error:
            failure = error.code().name
        return Answer(asked_s, time.monotonic() - asked_s, failure, embedding, lacks)

    async def run(self) -> None:
        """For ever; cancel to end."""
        next_s = time.monotonic()
        while True:
            request = self._asked[len(self._calls) % len(self._asked)]
            self._calls.append(asyncio.create_task(self._one(request)))
            next_s += self._interval_s
            await asyncio.sleep(max(next_s - time.monotonic(), 0.0))

    async def answers(self) -> list[Answer]:
        """All of them, in the order of asking."""
        found = await asyncio.gather(*self._calls)
        await self._channel.close()
        return found


async def measure(address: str, per_second: float, dataset: Dataset, version: str) -> list[Answer]:
    """Switches to the version under load, and back."""
    load = SteadyLoad(address, per_second, requests(dataset))
    running = asyncio.create_task(load.run())
    await asyncio.sleep(PHASE_S)
    for words in (("embed", "switch", version), ("embed", "rollback")):
        await asyncio.to_thread(recmesh, *words)
        await asyncio.sleep(PHASE_S)
    running.cancel()
    return await load.answers()


def main() -> None:
    """Prints what became of the requests."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--per-second", type=float, default=50.0)
    parser.add_argument("--dim", type=int, default=64)
    arguments = parser.parse_args()
    home = Home.from_environment()
    mesh = running_mesh(home)
    if mesh is None:
        raise SystemExit("no mesh runs for this home folder; start one: recmesh up")
    full = EmbeddingRegistry(home.vectors).live().version
    short = str(recmesh("embed", "build", "--dim", str(arguments.dim), "--no-validate")["version"])
    recmesh("embed", "verify", short)
    recmesh("embed", "switch", short)
    time.sleep(PHASE_S)
    dataset = Dataset.open(home.dataset)
    answers = asyncio.run(measure(mesh.address, arguments.per_second, dataset, full))
    versions = [answer.embedding for answer in answers if answer.embedding]
    changes = sum(1 for one, other in itertools.pairwise(versions) if one != other)
    took_ms = [1e3 * answer.took_s for answer in answers]
    failures = Counter(answer.failure for answer in answers if answer.failure)
    lacks = Counter(lack for answer in answers for lack in answer.lacks)
    print(
        json.dumps(
            {
                "requests": len(answers),
                "per_second": arguments.per_second,
                "failed": dict(failures),
                "degraded": dict(lacks),
                "by_embedding": dict(Counter(versions)),
                "changes_of_version": changes,
                "p50_ms": round(float(np.percentile(took_ms, 50)), 1),
                "p99_ms": round(float(np.percentile(took_ms, 99)), 1),
            },
            indent=2,
        )
    )
    # Requests under way at a switch may be answered in the order of either version.
    if failures or lacks or len(set(versions)) != 2 or changes < 2:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
