"""Following a log: at the start until all is known, then for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

Take = Callable[[], Awaitable[None]]
"""Takes everything there is to take now. Raises RecMeshError while nobody answers."""


async def catch_up(take: Take, what: str, poll_s: float, patience_s: float) -> None:
    """Waits until everything was taken, or for ``patience_s`` seconds, which is logged."""
    try:
        async with asyncio.timeout(patience_s):
            while True:
                with contextlib.suppress(RecMeshError):
                    await take()
                    return
                await asyncio.sleep(poll_s)
    except TimeoutError:
        log.warning("not_caught_up", what=what, waited_s=patience_s)


async def follow(take: Take, what: str, poll_s: float) -> None:
    """Takes for ever; cancel to end. That nobody answers is logged once, until somebody does."""
    silent = False
    while True:
        await asyncio.sleep(poll_s)
        try:
            await take()
        except RecMeshError as error:
            if not silent:
                log.warning("nobody_answers", what=what, reason=str(error))
            silent = True
        except Exception:
            # The loop outlives whatever one row may bring about.
            log.exception("following_failed", what=what)
        else:
            silent = False
