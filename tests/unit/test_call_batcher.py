from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from recmesh.deployments.call_batcher import CallBatcher


class Gate:
    """Doubles numbers, each batch when it is let through; fails on 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Semaphore(0)

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.open.acquire()
        if 13 in items:
            raise ZeroDivisionError(f"in {len(items)}")
        return [2 * item for item in items]


async def calls(batcher: CallBatcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    started = [asyncio.create_task(batcher(item)) for item in items]  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.sleep(0)
    return started


async def test_the_first_goes_alone_and_those_who_wait_go_together() -> None:
    gate = Gate()
    batcher = CallBatcher(gate, 3)
    first = await calls(batcher, 1)
    others = await calls(batcher, 2, 3, 2, 4, 5)
    assert gate.batches == [[1]]
    for _ in range(3):
        gate.open.release()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 4, 8, 10]
    assert gate.batches == [[1], [2, 3, 4], [5]]


async def test_a_fault_is_told_to_its_caller_alone() -> None:
    gate = Gate()
    batcher = CallBatcher(gate, 3)
    started = [*await calls(batcher, 1), *await calls(batcher, 2, 13, 13, 3)]
    for _ in range(5):
        gate.open.release()
    told = await asyncio.gather(*started, return_exceptions=True)
    assert [told[0], told[1], told[4]] == [2, 4, 6]
    assert [str(error) for error in told[2:4]] == ["in 1", "in 1"]
    gate.open.release()
    assert await batcher(7) == 14


async def test_nothing_is_done_for_who_no_longer_waits() -> None:
    gate = Gate()
    batcher = CallBatcher(gate, 3)
    first = await calls(batcher, 1)
    gone, stays = await calls(batcher, 2, 3)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    for _ in range(2):
        gate.open.release()
    assert await asyncio.gather(*first, stays) == [2, 6]
    assert gate.batches == [[1], [3]]


async def test_a_caller_who_leaves_while_it_is_done_harms_nobody() -> None:
    gate = Gate()
    batcher = CallBatcher(gate, 3)
    (first,) = await calls(batcher, 1)
    first.cancel()
    (second,) = await calls(batcher, 2)
    for _ in range(2):
        gate.open.release()
    assert await second == 4
