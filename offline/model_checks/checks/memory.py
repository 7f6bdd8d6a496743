"""Memory: the serving process does not grow with calls."""

from __future__ import annotations

import asyncio

import psutil

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.material import ASKED
from recmesh.offline.model_checks.result import NotCheckedError, Result, measured
from recmesh.offline.model_checks.subject import Subject

CALLS = 200
"""In one stretch."""
WARM_UP = 2
"""Stretches in which caches fill and the allocator settles."""
STRETCHES = 4
AT_ONCE = 4
MOST_BYTES = 8192
"""A call: a hundred calls a second would fill 8 GB in three hours."""


async def memory(subject: Subject) -> Result:
    """Resident memory after stretches of equal calls."""
    subject.need(Capability.SCORE, Capability.RETRIEVE)
    process = subject.process()
    for _ in range(WARM_UP):
        await _stretch(subject)
    grown = await _grown(subject, process)
    if grown > MOST_BYTES:
        # What was a cache that filled, or a pool that settled, does not grow again.
        grown = min(grown, await _grown(subject, process))
    calls = CALLS * STRETCHES
    return measured(
        max(grown, 0.0),
        MOST_BYTES,
        "bytes a call",
        passed=f"resident memory over {calls} calls after {CALLS * WARM_UP} to warm up",
        failed=f"the serving process leaks memory: it grew by {grown * calls / 1e6:.1f} MB in "
        f"{calls} equal calls",
        fix="Find what each call leaves behind (a list, a cache without a bound, a log kept in "
        "memory); tracemalloc in Python says where it was made.",
    )


async def _grown(subject: Subject, process: psutil.Process) -> float:
    """Bytes a call: the smallest growth of two halves, so that one jump is no leak."""
    try:
        seen = [process.memory_info().rss]
        for _ in range(STRETCHES):
            await _stretch(subject)
            seen.append(process.memory_info().rss)
    except psutil.Error as error:
        raise NotCheckedError(f"the process cannot be watched: {type(error).__name__}") from error
    half = STRETCHES // 2
    return min(seen[half] - seen[0], seen[-1] - seen[half]) / (CALLS * half)


async def _stretch(subject: Subject) -> None:
    asks, port = subject.asks, subject.port
    scores = subject.can(Capability.SCORE)

    async def caller(number: int) -> None:
        for place in range(number, CALLS, AT_ONCE):
            user = asks.users[place % len(asks.users)]
            if scores:
                await port.score(asks.score(user, asks.some(ASKED)))
            else:
                await port.retrieve(asks.retrieve(user, ASKED))

    await asyncio.gather(*(caller(number) for number in range(AT_ONCE)))


CHECK = Check(
    id="memory",
    title="Does not leak memory",
    measures=f"Resident memory of the serving process over {CALLS * STRETCHES} calls of {ASKED} "
    f"candidates, the same users in turns, after {CALLS * WARM_UP} to warm up; growth in both "
    f"halves, at most {MOST_BYTES} bytes a call. Not of a process on another machine.",
    why="A replica that grows is killed by the kernel in the middle of its calls.",
    run=memory,
)
