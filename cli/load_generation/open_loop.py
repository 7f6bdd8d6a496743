"""Sends requests when they are to start, whether or not earlier ones were answered.

Callers who wait for an answer before they ask again ask less while the server stalls, and their
latencies leave out those who would have waited (coordinated omission). Here a stall is felt by
every request that was to start during it, and latency counts from that intended start.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from recmesh.cli.load_generation.arrivals import Arrivals
from recmesh.cli.load_generation.latency_record import (
    OK,
    LatencyRecord,
    microsecond_histogram,
)
from recmesh.cli.load_generation.load_row import LoadRow, SurfaceRow
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.v1 import recommendation_pb2

LEAD_S = 0.05
"""Before the first request may start."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    code: str
    """Canonical gRPC code."""
    degraded: bool = False


Ask = Callable[[recommendation_pb2.RecommendRequest], Awaitable[Answer]]


class OpenLoop:
    """One run of a profile. Times are the event loop's."""

    def __init__(
        self,
        profile: Sequence[Segment],
        arrivals: Arrivals,
        requests: Iterator[recommendation_pb2.RecommendRequest],
        ask: Ask,
        deadline_s: float,
    ) -> None:
        self._profile = profile
        self._arrivals = arrivals
        self._requests = requests
        self._ask = ask
        self._deadline_s = deadline_s
        self._ends_s = list(accumulate(segment.seconds for segment in profile))
        self._starts_s = 0.0
        self._records = [_Record(deadline_s) for _ in profile]
        self._stopped_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Since the first request might start; 0 before :meth:`run`."""
        if not self._starts_s:
            return 0.0
        return max(0.0, asyncio.get_running_loop().time() - self._starts_s)

    @property
    def interrupted(self) -> bool:
        """Whether it was cancelled before the end."""
        return self._stopped_s is not None

    async def run(self) -> None:
        """Ends once every request has. Cancelled, it sends no more and waits for those sent."""
        self._starts_s = asyncio.get_running_loop().time() + LEAD_S
        async with asyncio.TaskGroup() as calls:
            try:
                await self._send(calls)
            except asyncio.CancelledError:
                self._stopped_s = self.elapsed_s
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()

    async def _send(self, calls: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        sent = zip(self._arrivals.at_s.tolist(), self._arrivals.segment.tolist(), strict=True)
        for at_s, place in sent:
            # Even without a wait, others have their turn.
            await asyncio.sleep(self._starts_s + at_s - loop.time())
            calls.create_task(self._one(self._starts_s + at_s, self._records[place]))
        await asyncio.sleep(self._starts_s + self._ends_s[-1] - loop.time())

    async def _one(self, intended_s: float, record: _Record) -> None:
        request = next(self._requests)
        clock = asyncio.get_running_loop().time
        record.lag.record_value(max(1, round(1e6 * (clock() - intended_s))))
        answer = await self._ask(request)
        ended_s = clock()
        took_s = ended_s - intended_s
        record.total.add(answer.code, took_s, answer.degraded)
        record.surfaces[request.surface].add(answer.code, took_s, answer.degraded)
        arrived_in = bisect_right(self._ends_s, ended_s - self._starts_s)
        if answer.code == OK and arrived_in < len(self._records):
            self._records[arrived_in].arrived += 1

    def rows(self) -> list[LoadRow]:
        """One a segment that was begun."""
        found = []
        for segment, record, end_s in zip(self._profile, self._records, self._ends_s, strict=True):
            seconds = segment.seconds
            if self._stopped_s is not None:
                seconds = min(seconds, self._stopped_s - (end_s - segment.seconds))
            if seconds <= 0:
                break
            lag_us = record.lag.get_value_at_percentile(99) if record.total.requests else 0
            found.append(
                LoadRow(
                    rate_per_s=segment.rate_per_s,
                    seconds=seconds,
                    deadline_ms=1e3 * self._deadline_s,
                    offered_per_s=record.total.requests / seconds,
                    achieved_per_s=record.arrived / seconds,
                    lag_p99_ms=lag_us / 1e3,
                    total=SurfaceRow.of(record.total, seconds),
                    surfaces={
                        name: SurfaceRow.of(surface, seconds)
                        for name, surface in sorted(record.surfaces.items())
                    },
                )
            )
        return found


@dataclass
class _Record:
    """Of one segment."""

    deadline_s: float
    arrived: int = 0

    def __post_init__(self) -> None:
        self.lag = microsecond_histogram()
        self.total = LatencyRecord(self.deadline_s)
        self.surfaces: defaultdict[str, LatencyRecord] = defaultdict(
            partial(LatencyRecord, self.deadline_s)
        )
