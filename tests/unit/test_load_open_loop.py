"""Latency counts from when a request was to start, in a clock of its own."""

from __future__ import annotations

import asyncio
from itertools import repeat

import numpy as np
import pytest

from recmesh.cli.load_generation.arrivals import Arrivals, poisson_arrivals
from recmesh.cli.load_generation.latency_record import OK, LatencyRecord
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.open_loop import Answer, Ask, OpenLoop
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.v1 import recommendation_pb2
from tests.virtual_time import run_in_virtual_time

FEED = recommendation_pb2.RecommendRequest(surface="feed", user_id="u")
SERVICE_S = 0.001
STALL_S = (2.0, 4.0)
DEADLINE_S = 10.0


def open_loop(ask: Ask, *segments: Segment, deadline_s: float = DEADLINE_S) -> OpenLoop:
    arrivals = poisson_arrivals(segments, np.random.default_rng(0))
    return OpenLoop(segments, arrivals, repeat(FEED), ask, deadline_s)


def measured(ask: Ask, *segments: Segment, deadline_s: float = DEADLINE_S) -> list[LoadRow]:
    async def main() -> list[LoadRow]:
        loop = open_loop(ask, *segments, deadline_s=deadline_s)
        await loop.run()
        assert not loop.interrupted
        return loop.rows()

    return run_in_virtual_time(main())


async def stalling(_: recommendation_pb2.RecommendRequest) -> Answer:
    """A server that takes a millisecond, but nothing goes on for two seconds."""
    now_s = asyncio.get_running_loop().time()
    stalled = STALL_S[0] <= now_s < STALL_S[1]
    await asyncio.sleep(SERVICE_S + (STALL_S[1] - now_s if stalled else 0.0))
    return Answer(OK)


def test_a_stall_is_felt_by_all_who_were_to_start_in_it() -> None:
    (row,) = measured(stalling, Segment(100, 10))
    # A fifth of the time nothing goes on: the nine-tenth percentile is half of the stall.
    assert row.total.p50_ms == pytest.approx(1, abs=0.1)
    assert row.total.p90_ms == pytest.approx(1000, rel=0.15)
    assert row.total.p99_ms == pytest.approx(1900, rel=0.05)


def test_callers_who_wait_for_their_answers_would_hide_it() -> None:
    async def main() -> LatencyRecord:
        record, clock = LatencyRecord(DEADLINE_S), asyncio.get_running_loop().time
        while (started_s := clock()) < 10:
            record.add((await stalling(FEED)).code, clock() - started_s)
            await asyncio.sleep(0.01 - SERVICE_S)
        return record

    latency_ms = run_in_virtual_time(main()).percentiles_ms()
    assert latency_ms[99.0] == pytest.approx(1, abs=0.1)


def test_a_generator_that_is_late_adds_its_lag_and_says_so() -> None:
    async def main() -> list[LoadRow]:
        jumped = False

        async def ask(_: recommendation_pb2.RecommendRequest) -> Answer:
            nonlocal jumped
            if not jumped:
                # The event loop itself stands still for a second.
                asyncio.get_running_loop()._jumping.now_s += 1.0
                jumped = True
            return Answer(OK)

        loop = open_loop(ask, Segment(100, 5))
        await loop.run()
        return loop.rows()

    (row,) = run_in_virtual_time(main())
    assert row.lag_p99_ms > 900
    assert row.total.p99_ms == pytest.approx(row.lag_p99_ms, rel=0.05)
    assert not row.reliable
    (kept,) = measured(stalling, Segment(100, 10))
    assert kept.lag_p99_ms < 1
    assert kept.reliable


def test_late_pages_are_no_goodput_and_failures_have_no_latency() -> None:
    number = 0

    async def ask(_: recommendation_pb2.RecommendRequest) -> Answer:
        nonlocal number
        number += 1
        await asyncio.sleep(0.3 if number % 2 else 0.01)
        return Answer(OK, degraded=True) if number % 10 else Answer("UNAVAILABLE")

    (row,) = measured(ask, Segment(100, 20), deadline_s=0.2)
    assert row.total.codes["UNAVAILABLE"] == pytest.approx(200, abs=40)
    assert row.total.goodput_per_s < 0.6 * row.offered_per_s
    assert row.achieved_per_s == pytest.approx(0.9 * row.offered_per_s, rel=0.05)
    assert row.total.p50_ms is not None
    assert row.total.p99_ms is None
    assert row.total.degraded_share == 1
    assert not row.holds


def test_a_page_counts_as_achieved_when_it_arrives() -> None:
    async def ask(_: recommendation_pb2.RecommendRequest) -> Answer:
        await asyncio.sleep(1.0)
        return Answer(OK)

    first, second = measured(ask, Segment(100, 2), Segment(10, 2))
    assert first.achieved_per_s == pytest.approx(50, rel=0.2)
    assert second.achieved_per_s == pytest.approx(55, rel=0.2)
    assert first.offered_per_s == pytest.approx(100, rel=0.2)


def test_cancelled_it_keeps_what_was_measured() -> None:
    async def main() -> OpenLoop:
        loop = open_loop(stalling, Segment(100, 1), Segment(50, 10), Segment(50, 10))
        run = asyncio.create_task(loop.run())
        await asyncio.sleep(3.0)
        run.cancel()
        await run
        return loop

    loop = run_in_virtual_time(main())
    assert loop.interrupted
    first, second = loop.rows()
    assert first.seconds == 1
    assert second.seconds == pytest.approx(2, abs=0.1)
    # Those in the stall were waited for.
    assert second.total.codes == {OK: second.total.requests}
    assert second.offered_per_s == pytest.approx(50, rel=0.2)


def test_an_error_nobody_expects_ends_it() -> None:
    async def ask(_: recommendation_pb2.RecommendRequest) -> Answer:
        raise RuntimeError("a defect")

    with pytest.raises(ExceptionGroup):
        measured(ask, Segment(10, 1))


def test_nothing_to_send_is_a_row_without_latencies() -> None:
    async def main() -> list[LoadRow]:
        nobody = Arrivals(np.empty(0), np.empty(0, dtype=np.int64))
        loop = OpenLoop([Segment(1, 1)], nobody, repeat(FEED), stalling, DEADLINE_S)
        await loop.run()
        return loop.rows()

    (row,) = run_in_virtual_time(main())
    assert row.total.requests == 0
    assert row.total.p50_ms is None


@pytest.mark.parametrize("failed", [0, 1, 9, 10, 11])
def test_percentiles_are_of_all_requests(failed: int) -> None:
    record = LatencyRecord(1.0)
    for n in range(1, 1001 - failed):
        record.add(OK, n / 1000)
    for _ in range(failed):
        record.add("UNAVAILABLE", 0.0)
    found = record.percentiles_ms()
    assert found[50.0] == pytest.approx(500, rel=0.002)
    assert found[99.0] == (pytest.approx(990, rel=0.002) if failed <= 10 else None)
    assert found[99.9] == (pytest.approx(999, rel=0.002) if failed <= 1 else None)
