"""Second attempts, and replicas that are left alone: decisions without connections."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.deployments.address_pool import AddressPool
from recmesh.deployments.hedged_call import first_answer
from recmesh.deployments.hedging import LEAST_KNOWN, MOST_SAVED, SHARE, WINDOW, HedgeBudget, Latency
from recmesh.deployments.outlier import FIRST_S, IN_A_ROW, LONGEST_S, Outlier
from recmesh.storage.errors import UnavailableError


@given(st.lists(st.booleans(), max_size=2_000))
def test_second_attempts_are_two_in_a_hundred_calls_at_most(wanted: list[bool]) -> None:
    budget = HedgeBudget()
    spent = 0
    for calls, want in enumerate(wanted, start=1):
        budget.earn()
        spent += want and budget.spend()
        assert spent <= SHARE * calls + 1e-9


def test_a_quiet_time_saves_up_a_little() -> None:
    budget = HedgeBudget()
    for _ in range(100_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1_000)) == int(MOST_SAVED)


@given(st.lists(st.floats(0, 10), min_size=LEAST_KNOWN, max_size=3 * WINDOW))
def test_what_is_usual_is_the_95th_percentile_of_what_was_last(took_s: list[float]) -> None:
    latency = Latency()
    for count, one in enumerate(took_s, start=1):
        latency.add(one)
        if count < LEAST_KNOWN:
            assert latency.p95_s is None
    renewed = took_s[: len(took_s) // 32 * 32][-WINDOW:]
    assert latency.p95_s == np.quantile(renewed, 0.95, method="higher") or (
        latency.p95_s == sorted(renewed)[int(0.95 * len(renewed))]
    )


def test_each_time_it_is_left_alone_for_longer_up_to_a_limit() -> None:
    outlier, now_s, pauses = Outlier(), 0.0, []
    for _ in range(8):
        outlier.vanished(now_s)
        pauses.append(outlier.until_s - now_s)
        now_s = outlier.until_s
    assert pauses == [FIRST_S, 1.0, 2.0, 4.0, LONGEST_S, LONGEST_S, LONGEST_S, LONGEST_S]
    outlier.succeeded()
    outlier.vanished(now_s)
    assert outlier.until_s == now_s + FIRST_S


def test_calls_that_were_under_way_together_are_one_fault() -> None:
    outlier = Outlier()
    for _ in range(20):
        outlier.vanished(1.0)
    assert outlier.until_s == 1.0 + FIRST_S


def test_errors_in_a_row_leave_it_alone_and_single_ones_do_not() -> None:
    outlier = Outlier()
    for _ in range(3 * IN_A_ROW):
        for _ in range(IN_A_ROW - 1):
            outlier.erred(1.0)
        outlier.succeeded()
    assert outlier.until_s == 0.0
    for _ in range(IN_A_ROW):
        outlier.erred(1.0)
    assert outlier.until_s == 1.0 + FIRST_S
    outlier.erred(2.0)
    assert outlier.until_s == 2.0 + 2 * FIRST_S, "after that it has one chance"


async def test_somebody_is_asked_even_when_all_have_failed() -> None:
    now_s = 0.0
    pool = AddressPool(clock=lambda: now_s)
    pool.set_addresses(["a:1", "b:1", "c:1"])
    asked = [pool.pick(set()) for _ in range(3)]
    for address in ("a:1", "b:1", "c:1"):
        replica = pool.pick(set())
        assert replica is not None
        assert replica.address == address, "those that failed are passed over"
        replica.outlier.vanished(now_s)
    assert None not in asked
    spread = []
    for _ in range(6):
        replica = pool.pick(set())
        assert replica is not None
        replica.outstanding += 1
        spread.append(replica.address)
    assert sorted(spread) == ["a:1", "a:1", "b:1", "b:1", "c:1", "c:1"]
    assert pool.other(replica) is None, "a second attempt goes to a good one only"
    now_s = FIRST_S
    assert pool.other(replica) is not None
    await pool.close()


class Scripted:
    """An attempt that answers, or fails, when it is told to."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_overtaken = False
        self.was_cancelled = False

    async def answer(self) -> Any:
        try:
            return await self.done
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    def overtake(self) -> None:
        self.is_overtaken = True
        self.done.cancel()


@pytest.fixture
async def first() -> Scripted:
    return Scripted()


@pytest.fixture
async def second() -> Scripted:
    return Scripted()


async def began(call: asyncio.Task[Any]) -> None:
    """Until the second attempt is under way."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not call.done()


async def test_a_usual_call_has_no_second_attempt(first: Scripted) -> None:
    first.done.set_result("first")
    assert await first_answer(first, 60, lambda: pytest.fail("no need")) == "first"


async def test_the_second_answer_ends_the_first(first: Scripted, second: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: second))
    await began(call)
    second.done.set_result("second")
    assert await call == "second"
    assert first.was_cancelled


async def test_the_first_answer_ends_the_second(first: Scripted, second: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: second))
    await began(call)
    first.done.set_result("first")
    assert await call == "first"
    await asyncio.sleep(0)
    assert second.was_cancelled
    assert not first.is_overtaken


async def test_the_second_makes_good_what_the_first_lost(first: Scripted, second: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: second))
    await began(call)
    first.done.set_exception(UnavailableError("gone"))
    await began(call)
    second.done.set_result("second")
    assert await call == "second"


async def test_when_both_fail_the_first_says_why(first: Scripted, second: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: second))
    await began(call)
    second.done.set_exception(UnavailableError("second"))
    await began(call)
    first.done.set_exception(UnavailableError("first"))
    with pytest.raises(UnavailableError, match="first"):
        await call


async def test_without_a_second_one_the_first_is_waited_for(first: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: None))
    await began(call)
    first.done.set_result("first")
    assert await call == "first"


async def test_whoever_stops_waiting_ends_both(first: Scripted, second: Scripted) -> None:
    call = asyncio.ensure_future(first_answer(first, 0, lambda: second))
    await began(call)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert first.was_cancelled
    assert second.was_cancelled
