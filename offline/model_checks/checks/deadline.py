"""Deadline: an answer or an error in time, and no work long after it."""

from __future__ import annotations

import asyncio
import itertools
import math
import time

import grpc

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.heavy_call import HELD_UP_S, TRIES, heavy_call, held_up_s
from recmesh.offline.model_checks.result import Result, Rules, Status, measured
from recmesh.offline.model_checks.subject import Subject

AT_ONCE = 4
LATE_S = 0.1
SHORTEST_S = 0.001
PARTS = (0.25, 1.0, 4.0, 20.0)
"""Deadlines that are tried, as parts of the time that the call takes."""


async def deadline(subject: Subject) -> Result:
    """Lets heavy calls run out of time, then sees how long the next call waits."""
    subject.need(Capability.SCORE, Capability.RETRIEVE)
    heavy = await heavy_call(subject)
    budget_s = (subject.declaration.service.budget_ms if subject.declaration else 100.0) / 1e3
    given_s = max(min(budget_s, heavy.took_s / 2), SHORTEST_S)
    late_s = held_s = math.inf
    for _ in range(TRIES):
        started_s = time.perf_counter()
        replies = await subject.port.together(heavy.method, heavy.request, AT_ONCE, given_s)
        late_s = min(late_s, time.perf_counter() - started_s - given_s)
        held_s = min(held_s, await held_up_s(subject, heavy))
        if late_s <= LATE_S and held_s <= HELD_UP_S:
            break
    rules = Rules()
    for reply in replies:
        rules.hold(
            reply.good or reply.code is grpc.StatusCode.DEADLINE_EXCEEDED,
            f"a call without time left ended as {reply.code.name}",
            "Answer DEADLINE_EXCEEDED when the time is over.",
        )
    rules.hold(
        late_s <= LATE_S,
        f"calls with {given_s * 1e3:.0f} ms ended {late_s * 1e3:.0f} ms late",
        "Answer, or give up, within the call's deadline.",
    )
    fewer = await _fewer_with_more_time(subject, heavy.method, heavy.request, heavy.took_s)
    rules.hold(
        not fewer,
        f"more time gave less: {fewer}",
        "Give at least as much of an answer when there is more time.",
    )
    broken = rules.result("")
    if broken.status is Status.FAILED:
        return broken
    expired = sum(not reply.good for reply in replies)
    return measured(
        held_s * 1e3,
        HELD_UP_S * 1e3,
        "ms",
        passed=f"after {expired} calls that ran out of time the next one was held up so long",
        failed=f"work went on after the deadline: {AT_ONCE} calls with {given_s * 1e3:.0f} ms ran "
        f"out of time, and the next call was held up for {held_s * 1e3:.0f} ms",
        fix="Stop working when the deadline is over: look at the time left between steps, or make "
        "one call short enough (5000 candidates) that nothing need be stopped.",
    )


async def _fewer_with_more_time(
    subject: Subject, method: str, request: object, took_s: float
) -> str:
    counts: list[tuple[float, int]] = []
    for part in PARTS:
        reply = await subject.port.call(method, request, max(part * took_s, SHORTEST_S))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        if reply.good:
            counts.append((part * took_s, len(reply.answer.scores) - _missing(reply.answer)))
    for (short_s, more), (long_s, fewer) in itertools.pairwise(counts):
        if fewer < more:
            return f"{more} opinions in {short_s * 1e3:.0f} ms, {fewer} in {long_s * 1e3:.0f} ms"
    return ""


def _missing(answer: object) -> int:
    return len(getattr(answer, "missing", ()))


CHECK = Check(
    id="deadline",
    title="Keeps deadlines",
    measures=f"{AT_ONCE} heavy calls at once with less time than they take (half of it, at most "
    f"budget_ms); how long the next small call is held up beyond its usual time, at most "
    f"{HELD_UP_S * 1e3:.0f} ms. Ends at most {LATE_S * 1e3:.0f} ms late; more time never "
    "gives less. Up to three tries, the best counts.",
    why="Work for callers who are gone holds up those who wait: a slow moment becomes an outage.",
    run=deadline,
)
