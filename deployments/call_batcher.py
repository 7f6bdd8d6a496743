"""Calls of one kind, done together when they come together.

Whoever comes while nothing is under way is served at once; whoever comes meanwhile waits, as they
would for a thread, and leaves with all the others that waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


class CallBatcher(Generic[Item, Result]):
    """Collects the items of callers of one event loop; equal ones are worked on once."""

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], most: int
    ) -> None:
        """``work`` makes a result of each of at most ``most`` items; never twice at a time."""
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The item's result. Raises what the work raises for this item by itself."""
        wanted: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, wanted))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="batch-calls")
        return await wanted

    async def _run(self) -> None:
        try:
            while self._waiting:
                callers: dict[Item, list[asyncio.Future[Result]]] = {}
                while self._waiting and len(callers) < self._most:
                    item, wanted = self._waiting.popleft()
                    if not wanted.cancelled():
                        callers.setdefault(item, []).append(wanted)
                await self._serve(callers)
        finally:
            self._running = None
            for _, wanted in self._waiting:  # only when this task was cancelled
                wanted.cancel()
            self._waiting.clear()

    async def _serve(self, callers: dict[Item, list[asyncio.Future[Result]]]) -> None:
        items = list(callers)
        try:
            results = await self._work(items) if items else []
        except Exception as error:  # noqa: BLE001 - it is the callers', whatever it is
            if len(items) > 1:
                # One item's fault must not become the others'.
                for item in items:
                    await self._serve({item: callers[item]})
                return
            for wanted in callers[items[0]]:
                if not wanted.done():
                    wanted.set_exception(error)
            return
        for item, result in zip(items, results, strict=True):
            for wanted in callers[item]:
                if not wanted.done():
                    wanted.set_result(result)
