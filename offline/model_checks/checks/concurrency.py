"""Concurrency: many callers at once get what each would get alone."""

from __future__ import annotations

import asyncio

import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.material import ASKED
from recmesh.offline.model_checks.opinions import SAME, Float64, difference, opinions
from recmesh.offline.model_checks.result import Result, Status, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.storage.errors import RecMeshError
from recmesh.v1 import common_pb2

CALLERS = 16
ROUNDS = 5
TIMEOUT_S = 10.0


async def concurrency(subject: Subject) -> Result:
    """Answers of 16 callers at once against those given one after another."""
    subject.need(Capability.SCORE, Capability.RETRIEVE)
    users = [subject.asks.users[n % len(subject.asks.users)] for n in range(CALLERS)]
    try:
        alone = [await _answer(subject, user) for user in users]
        worst = 0.0
        for _ in range(ROUNDS):
            together = await asyncio.gather(*(_answer(subject, user) for user in users))
            worst = max(worst, *map(difference, alone, together))
    except RecMeshError as error:
        return Result(
            Status.FAILED,
            f"with {CALLERS} callers at once, {error}",
            "Make the model's calls thread-safe, and serve more than one at a time."
            + (f" Its log says last: {subject.last_error()}" if subject.last_error() else ""),
        )
    return measured(
        worst,
        SAME,
        "relative",
        passed=f"{CALLERS} callers at once, {ROUNDS} times, got what each gets alone",
        failed=f"with {CALLERS} callers at once answers differ from those alone, by {worst:.2g}",
        fix="Keep what belongs to a call in the call: no attribute, buffer or cache that two "
        "threads write to.",
    )


async def _answer(subject: Subject, user: common_pb2.UserFeatures) -> Float64:
    asks, client = subject.asks, subject.client
    if subject.can(Capability.SCORE):
        request = asks.score(user, asks.some(ASKED))
        return opinions(await client.score(request, timeout_s=TIMEOUT_S))
    found = await client.retrieve(asks.retrieve(user, ASKED), timeout_s=TIMEOUT_S)
    return np.array(found.scores, np.float64)


CHECK = Check(
    id="concurrency",
    title="Serves many callers",
    measures=f"{CALLERS} callers at once, {ROUNDS} times, against each alone; largest relative "
    f"difference, at most {SAME:g}. Asked through the mesh's own client.",
    why="A replica answers many pages at once; a shared buffer shows one doctor another's page.",
    run=concurrency,
)
