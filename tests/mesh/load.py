"""Callers that ask a mesh for pages all the time and remember every answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc

CALLERS = 3
GONE = common_pb2.SOURCE_STATE_UNAVAILABLE
DEADLINE_S = 5.0
"""Longer than any page takes, whatever else the machine has to do; only silence fails."""
PAUSE_S = 0.1
"""Leaves the machine to what is tested: replicas that start."""
RECOVERY_S = 60.0


@dataclass(frozen=True)
class Answer:
    """One call's outcome."""

    ended_s: float
    took_s: float
    failure: grpc.StatusCode | None
    missing: frozenset[str]
    """Components the page does without."""
    failed: frozenset[str] = frozenset()
    """Components that answered wrongly, not merely late or not at all."""
    caller: int = 0
    embedding: str = ""
    policy: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of sources, by name."""
    unreachable: frozenset[str] = frozenset()
    """Sources that nobody could reach; a slow one is not among them."""


@dataclass
class Load:
    """All answers so far."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failure is not None]

    async def until(self, wanted: Callable[[Answer], bool], times: int = 1) -> None:
        """Waits until ``times`` answers in a row, from now on, are as wanted."""
        seen, in_a_row = len(self.answers), 0
        try:
            async with asyncio.timeout(RECOVERY_S):
                while in_a_row < times:
                    await asyncio.sleep(0.02)
                    for answer in self.answers[seen:]:
                        in_a_row = in_a_row + 1 if wanted(answer) else 0
                    seen = len(self.answers)
        except TimeoutError:
            raise AssertionError(f"not within {RECOVERY_S} s; last {self.answers[-3:]}") from None

    async def until_whole(self) -> None:
        """Waits until pages lack nothing again."""
        await self.until(lambda answer: answer.failure is None and not answer.missing, times=20)


@asynccontextmanager
async def load(
    address: str,
    surface: str = "feed",
    options: list[tuple[str, str]] | None = None,
    users: Sequence[str] = ("reader",),
) -> AsyncIterator[Load]:
    """Callers at work while the context is open, each for one user after another."""
    seen = Load()

    async def caller(number: int) -> None:
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
            for user in itertools.cycle(users):
                request = recommendation_pb2.RecommendRequest(surface=surface, user_id=user)
                started_s = time.monotonic()
                failure, missing, failed = None, frozenset[str](), frozenset[str]()
                embedding, policy = "", ""
                versions: dict[str, str] = {}
                unreachable = frozenset[str]()
                try:
                    page = await stub.Recommend(request, timeout=DEADLINE_S)
                    assert page.recommendations
                    missing = frozenset(d.component for d in page.degradations)
                    assert page.degraded == bool(missing)
                    wrong = common_pb2.SOURCE_STATE_ERROR
                    failed = frozenset(s.name for s in page.sources if s.state == wrong)
                    embedding, policy = page.versions.embedding, page.versions.policy
                    unreachable = frozenset(s.name for s in page.sources if s.state == GONE)
                    versions = {source.name: source.version for source in page.sources}
                except grpc.aio.AioRpcError as error:
                    failure = error.code()
                now_s = time.monotonic()
                took_s = now_s - started_s
                seen.answers.append(
                    Answer(
                        now_s,
                        took_s,
                        failure,
                        missing,
                        failed,
                        number,
                        embedding,
                        policy,
                        versions,
                        unreachable,
                    )
                )
                await asyncio.sleep(PAUSE_S)

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    try:
        yield seen
    finally:
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
