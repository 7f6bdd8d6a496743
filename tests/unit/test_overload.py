"""Who is let in, who waits, who is turned away."""

from __future__ import annotations

import asyncio
import time

import pytest

from recmesh.orchestrator.overload.adaptive_limit import (
    BUSY_LAG_S,
    FEWEST,
    FIRST,
    LEAST_WINDOW,
    MOST,
    AdaptiveLimit,
)
from recmesh.orchestrator.overload.loop_lag import tell_lag
from recmesh.orchestrator.overload.priority import Priority
from recmesh.orchestrator.overload.priority_gate import PriorityGate
from recmesh.storage.errors import OverloadedError

CRITICAL, NORMAL, BATCH = Priority


def limit(at_once: int) -> AdaptiveLimit:
    made = AdaptiveLimit()
    made.at_once = at_once
    return made


def window(of: AdaptiveLimit, share: float, working: int, lag_s: float = 0.01) -> int:
    of.lagging(lag_s)
    of.working(working)
    for _ in range(max(LEAST_WINDOW, of.at_once)):
        of.answered(share)
    return of.at_once


def test_it_grows_only_where_it_binds_and_answers_have_time_left() -> None:
    found = AdaptiveLimit()
    assert window(found, 0.1, working=FIRST - 1) == FIRST
    assert window(found, 0.1, working=FIRST) > FIRST
    found.at_once = MOST
    assert window(found, 0.1, working=MOST) == MOST


def test_late_answers_lower_it_and_never_to_nothing() -> None:
    found = limit(20)
    assert window(found, 0.9, working=20) == 16
    for _ in range(50):
        # Critical ones are let in beyond it.
        window(found, 0.9, working=found.at_once + found.at_once // 2)
    assert found.at_once == FEWEST


def test_answers_much_later_than_the_quickest_lower_it() -> None:
    found = limit(FIRST)
    window(found, 0.02, working=1)
    assert window(found, 0.04, working=FIRST) == FIRST + 1
    assert window(found, 0.06, working=FIRST + 1) < FIRST


def test_where_nobody_waits_others_take_the_cores() -> None:
    found = limit(FIRST)
    window(found, 0.02, working=1)
    for _ in range(8):
        assert window(found, 0.9, working=5) == FIRST


@pytest.mark.parametrize("learned", [FEWEST, 4 * FIRST])
def test_what_was_learned_is_forgotten_where_nobody_waits(learned: int) -> None:
    found = limit(learned)
    for _ in range(FIRST):
        window(found, 0.1, working=1)
    assert found.at_once == FIRST


def test_what_got_dearer_for_good_is_no_overload_for_ever() -> None:
    found = limit(32)
    window(found, 0.02, working=1)
    for _ in range(300):
        window(found, 0.06, working=found.at_once)
    assert found.at_once > 32


def test_work_that_waits_for_others_does_not_lower_it() -> None:
    found = limit(8)
    for _ in range(4):
        window(found, 0.9, working=found.at_once, lag_s=0.0002)
    assert found.at_once == 12


def test_some_late_answers_are_no_overload() -> None:
    found = AdaptiveLimit()
    found.lagging(0.01)
    found.working(FIRST)
    for _ in range(LEAST_WINDOW // 2 - 1):
        found.answered(1.5)
    for _ in range(LEAST_WINDOW // 2 + 1):
        found.answered(0.1)
    assert found.at_once > FIRST


def test_it_changes_once_a_round() -> None:
    found = AdaptiveLimit()
    found.lagging(0.01)
    found.working(FIRST)
    for _ in range(LEAST_WINDOW - 1):
        found.answered(0.9)
        assert found.at_once == FIRST
    found.answered(0.9)
    assert found.at_once < FIRST


async def test_a_loop_that_is_kept_from_its_work_is_late() -> None:
    told: list[float] = []
    telling = asyncio.create_task(tell_lag(told.append))
    while not told:
        time.sleep(0.04)  # noqa: ASYNC251 - what it is about
        await asyncio.sleep(0)
    telling.cancel()
    assert told[0] > BUSY_LAG_S


@pytest.mark.parametrize("name", Priority.names())
def test_priorities_by_name(name: str) -> None:
    assert Priority.named(name).name == name.upper()
    assert Priority.named(f"{name}!") is NORMAL


async def test_up_to_the_limit_nobody_waits() -> None:
    gate = PriorityGate(limit(2))
    await gate.enter(BATCH, 1.0)
    await gate.enter(BATCH, 1.0)
    assert gate.working == 2
    gate.leave()
    assert gate.working == 1


async def test_the_important_go_first_and_then_the_earlier() -> None:
    gate = PriorityGate(limit(1))
    await gate.enter(NORMAL, 1.0)
    gate.limit.at_once, gate.working = 10, 15
    came: list[str] = []

    async def asks(name: str, priority: Priority) -> None:
        await gate.enter(priority, 10.0)
        came.append(name)

    asked = [("b", BATCH), ("n1", NORMAL), ("n2", NORMAL), ("c", CRITICAL)]
    tasks = [asyncio.create_task(asks(*one)) for one in asked]
    await asyncio.sleep(0)
    for _ in range(9):
        gate.leave()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert came == ["c", "n1", "n2", "b"]
    assert gate.working == 10


async def test_critical_ones_find_room_where_others_wait() -> None:
    gate = PriorityGate(limit(2))
    for _ in range(2):
        await gate.enter(NORMAL, 1.0)
    waiting = asyncio.create_task(gate.enter(NORMAL, 10.0))
    await asyncio.sleep(0)
    await gate.enter(CRITICAL, 1.0)
    assert gate.working == 3
    with pytest.raises(OverloadedError):
        await gate.enter(CRITICAL, 0.004)
    gate.leave()
    await asyncio.sleep(0)
    assert not waiting.done(), "the place was one for critical requests"
    gate.leave()
    await waiting
    assert gate.working == 2


async def test_who_waits_too_long_is_turned_away_and_leaves_no_trace() -> None:
    gate = PriorityGate(limit(1))
    await gate.enter(NORMAL, 1.0)
    with pytest.raises(OverloadedError, match="try again later"):
        await gate.enter(NORMAL, 0.004)
    assert gate.shed == {NORMAL: 1}
    gate.leave()
    assert gate.working == 0


async def test_an_important_one_takes_the_place_of_the_least_important() -> None:
    gate = PriorityGate(limit(1), most_waiting=1)
    await gate.enter(NORMAL, 1.0)
    await gate.enter(CRITICAL, 1.0)
    batch = asyncio.create_task(gate.enter(BATCH, 10.0))
    await asyncio.sleep(0)
    critical = asyncio.create_task(gate.enter(CRITICAL, 10.0))
    with pytest.raises(OverloadedError):
        await batch
    with pytest.raises(OverloadedError):
        await gate.enter(CRITICAL, 10.0)
    gate.leave()
    await critical
    assert gate.shed == {BATCH: 1, CRITICAL: 1}
    assert gate.working == 2


async def test_who_gives_up_frees_the_place_they_got() -> None:
    gate = PriorityGate(limit(1))
    await gate.enter(NORMAL, 1.0)
    waiting = asyncio.create_task(gate.enter(NORMAL, 10.0))
    await asyncio.sleep(0)
    gate.leave()
    waiting.cancel()  # Let in, not told yet.
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gate.working == 0
    gone = asyncio.create_task(gate.enter(NORMAL, 10.0))
    await gone
    assert gate.working == 1


async def test_no_place_is_lost_whatever_happens() -> None:
    gate = PriorityGate(limit(3))

    async def asks(number: int) -> bool:
        try:
            await gate.enter(Priority(number % 3), 0.02 + 0.001 * (number % 7))
        except OverloadedError:
            return False
        assert gate.working <= 5
        try:
            await asyncio.sleep(0.001 * (number % 4))
        finally:
            gate.leave()
        return True

    tasks = [asyncio.create_task(asks(number)) for number in range(200)]
    for task in tasks[::9]:
        asyncio.get_running_loop().call_later(0.002, task.cancel)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.working == 0
    assert sum(answer is False for answer in answers) == sum(gate.shed.values())
    assert any(answer is True for answer in answers)
