"""Recent requests, answered with the candidates and with the live versions, side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recmesh.models.model import Progress, silent
from recmesh.offline.evaluation.fitting import newest_moment
from recmesh.orchestrator.policy import SurfacePolicy
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import RecMeshError
from recmesh.v1 import common_pb2, recommendation_pb2

REQUESTS = 200
LATEST = 20_000
"""Events that requests are drawn from."""
K = 10

Page = recommendation_pb2.RecommendResponse
Answer = Callable[[recommendation_pb2.RecommendRequest], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Shadow:
    """What became of the requests. No page is kept."""

    requests: int
    errors: int = 0
    """Requests that the candidates' mesh failed and the live one answered."""
    emptied: int = 0
    """Pages without an item, where the live one has some."""
    lacking: int = 0
    """Pages whose sources did not all answer that answered for the live one."""
    overlap_at_10: float = 1.0
    """Mean share of the live page's first ten that the candidates' page has among its own."""
    overlap_by_surface: Mapping[str, float] = field(default_factory=dict)
    latency_ratio: float = 1.0
    """Median of candidates' over live latency, request by request; in one process."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why requests failed and what pages lacked, and how often."""


def recent_requests(
    dataset: Dataset, surfaces: Mapping[str, SurfacePolicy], seed: int
) -> list[recommendation_pb2.RecommendRequest]:
    """200 requests as users made them lately: who asked where, and for what.

    Drawn from the last 20,000 events, each user, surface and query once; an event that names no
    surface of the policy stands for a visit to the feed.
    """
    events = dataset.events.slice(max(len(dataset.events) - LATEST, 0))
    asked = events.select(["user_id", "surface", "query"]).group_by(
        ["user_id", "surface", "query"], use_threads=False
    )
    newest = newest_moment(dataset)
    found: list[recommendation_pb2.RecommendRequest] = []
    for row in asked.aggregate([]).to_pylist():
        surface = row["surface"] if row["surface"] in surfaces else next(iter(surfaces))
        needs_query = surfaces[surface].query == "required"
        if needs_query and not row["query"].strip():
            continue
        request = recommendation_pb2.RecommendRequest(
            # The same for both pages and in every run, whatever is seeded by it.
            request_id=f"shadow-{len(found)}",
            surface=surface,
            user_id=row["user_id"],
            query=row["query"] if needs_query else "",
            page_size=K,
        )
        if newest is not None:
            request.context.time.FromDatetime(newest)
        found.append(request)
    chosen = np.random.default_rng(seed).permutation(len(found))[:REQUESTS]
    return [found[row] for row in sorted(chosen.tolist())]


def _answered(page: Page) -> set[str]:
    return {s.name for s in page.sources if s.state == common_pb2.SOURCE_STATE_OK}


async def shadowed(
    requests: Sequence[recommendation_pb2.RecommendRequest],
    live: Answer,
    candidate: Answer,
    progress: Progress = silent,
) -> Shadow:
    """Asks both every request, one after the other, in turns as to who goes first.

    Args:
        requests: to answer.
        live: the pipeline with the live versions.
        candidate: the pipeline with the candidates in their place.
        progress: told how far it is.
    """
    errors = emptied = lacking = 0
    overlaps: dict[str, list[float]] = {}
    ratios: list[float] = []
    reasons: dict[str, int] = {}

    async def asked(answer: Answer, number: int) -> tuple[Page | RecMeshError, float]:
        started_s = time.perf_counter()
        try:
            page = await answer(requests[number])
        except RecMeshError as error:
            return error, 0.0
        return page, time.perf_counter() - started_s

    def because(reason: str) -> None:
        reasons[reason] = reasons.get(reason, 0) + 1

    for number, request in enumerate(requests):
        progress(number, len(requests), "requests answered twice")
        order = (live, candidate) if number % 2 else (candidate, live)
        answers = {answer: await asked(answer, number) for answer in order}
        (before, before_s), (after, after_s) = answers[live], answers[candidate]
        if isinstance(before, RecMeshError):
            continue
        if isinstance(after, RecMeshError):
            errors += 1
            because(str(after))
            continue
        ratios.append(after_s / before_s)
        old = [slot.item_id for slot in before.recommendations][:K]
        new = [slot.item_id for slot in after.recommendations][:K]
        missing = sorted(_answered(before) - _answered(after))
        for name in missing:
            because(f"{name} did not answer")
        lacking += bool(missing)
        emptied += bool(old) and not new
        if old:
            share = len({*old} & {*new}) / len(old)
            overlaps.setdefault(request.surface, []).append(share)
        await asyncio.sleep(0)
    progress(len(requests), len(requests), "requests answered twice")
    every = [share for shares in overlaps.values() for share in shares]
    return Shadow(
        requests=len(requests),
        errors=errors,
        emptied=emptied,
        lacking=lacking,
        overlap_at_10=float(np.mean(every)) if every else 1.0,
        overlap_by_surface={name: float(np.mean(s)) for name, s in sorted(overlaps.items())},
        latency_ratio=float(np.median(ratios)) if ratios else 1.0,
        reasons=reasons,
    )
