"""Cancellation: a call that its caller gave up leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc.aio

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.heavy_call import (
    HELD_UP_S,
    TRIES,
    HeavyCall,
    heavy_call,
    held_up_s,
)
from recmesh.offline.model_checks.model_port import ANSWER_S
from recmesh.offline.model_checks.opinions import SAME, difference, opinions
from recmesh.offline.model_checks.result import Result, Status, measured
from recmesh.offline.model_checks.subject import Subject

AT_ONCE = 16


async def cancellation(subject: Subject) -> Result:
    """Starts heavy calls, cancels them all, then asks something small."""
    subject.need(Capability.SCORE, Capability.RETRIEVE)
    asks = subject.asks
    heavy = await heavy_call(subject)
    small = asks.score(asks.users[0], asks.some(50))
    scores = subject.can(Capability.SCORE)
    before = opinions(await subject.port.score(small)) if scores else None
    limit_s = heavy.took_s + HELD_UP_S
    held_s = math.inf
    for _ in range(TRIES):
        held_s = min(held_s, await _held_up_by_cancelled(subject, heavy))
        if held_s <= limit_s:
            break
    if before is not None:
        apart = difference(before, opinions(await subject.port.score(small)))
        if apart > SAME:
            return Result(
                Status.FAILED,
                f"after cancelled calls the same request is answered differently, by {apart:.2g}",
                "Keep nothing between calls: what a cancelled call began must not reach others.",
                apart,
                SAME,
                "relative",
            )
    return measured(
        held_s * 1e3,
        limit_s * 1e3,
        "ms",
        passed=f"after {AT_ONCE} cancelled calls the next one was held up so long",
        failed=f"{AT_ONCE} cancelled calls were worked on all the same: the next call was held up "
        f"for {held_s * 1e3:.0f} ms, one of them takes {heavy.took_s * 1e3:.0f} ms",
        fix="Take a call out of the queue when it is cancelled: look whether its context is still "
        "active before work begins.",
    )


async def _held_up_by_cancelled(subject: Subject, heavy: HeavyCall) -> float:
    calls = [subject.port.started(heavy.method, heavy.request, ANSWER_S) for _ in range(AT_ONCE)]
    # Time to arrive, and for the first ones to begin.
    await asyncio.sleep(min(heavy.took_s / 2, 0.05))
    for call in calls:
        call.cancel()
    await asyncio.gather(*(_ended(call) for call in calls))
    return await held_up_s(subject, heavy)


async def _ended(call: Any) -> None:
    try:
        await call
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        return


CHECK = Check(
    id="cancellation",
    title="Drops cancelled calls",
    measures=f"{AT_ONCE} heavy calls started and cancelled; how long the next small call is held "
    f"up, at most the time of one heavy call and {HELD_UP_S * 1e3:.0f} ms; its answer is the same. "
    "Up to three tries, the best counts.",
    why="The mesh cancels calls whose page is already answered; their work would queue up.",
    run=cancellation,
)
