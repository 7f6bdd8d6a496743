"""The first answer of two attempts of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from recmesh.deployments.attempt import Attempt
from recmesh.storage.errors import RecMeshError, UnavailableError


async def first_answer(first: Attempt, after_s: float, second: Callable[[], Attempt | None]) -> Any:
    """The answer of an attempt, or of another one that begins when it has taken ``after_s``.

    Whichever answers first ends the other one. While the first is as fast as usual, this costs a
    timer that is cancelled.

    Args:
        first: under way.
        after_s: the second begins then.
        second: makes it; None: there shall be none.

    Raises:
        RecMeshError: the first one's, when it failed and so did the second, or there was none.
    """
    rival: asyncio.Task[Any] | None = None

    async def overtaking(attempt: Attempt) -> Any:
        answer = await attempt.answer()
        first.overtake()
        return answer

    def begin() -> None:
        nonlocal rival
        attempt = second()
        if attempt is not None:
            rival = asyncio.ensure_future(overtaking(attempt))
            rival.add_done_callback(_looked_at)

    timer = asyncio.get_running_loop().call_later(after_s, begin)
    try:
        return await first.answer()
    except asyncio.CancelledError:
        if rival is None or not first.is_overtaken or _is_cancelled():
            raise
        return rival.result()
    except UnavailableError:
        if rival is None:
            raise
        try:
            return await rival
        except RecMeshError:
            pass
        raise
    finally:
        timer.cancel()
        if rival is not None:
            rival.cancel()


def _is_cancelled() -> bool:
    """Whether whoever waits for the call no longer does."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _looked_at(task: asyncio.Task[Any]) -> None:
    """A second attempt that fails is no news: asyncio need not report it."""
    if not task.cancelled():
        task.exception()
