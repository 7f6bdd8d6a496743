"""One page whose slots two arms pick in turn, each from the page that it would have made.

Both pages are filled from the same data and by the same deadline, without sponsored slots: the
ledger holds a slot for a page that is shown, and neither of these is. The coin is seeded by the
request, and a slot depends on earlier ones alone, so that pages of one request are cuts of one
draft.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from recmesh.orchestrator.admission import Admitted, Rival
from recmesh.orchestrator.attribution_token import NEITHER, Picks
from recmesh.orchestrator.experiments.experiment import ALL
from recmesh.orchestrator.experiments.interleaving import NOBODY, Int64, team_draft
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.page_token import MAX_SLOTS, PageToken
from recmesh.orchestrator.source_call import SourceCalls
from recmesh.v1 import common_pb2, recommendation_pb2

Page = recommendation_pb2.RecommendResponse
Fill = Callable[[Mesh, Admitted], Awaitable[Page]]
"""Fills the page of a request by its own snapshot and surface."""


def _sides(mesh: Mesh, request: Admitted, rival: Rival) -> Iterator[Admitted]:
    """Each arm's request: for all slots up to the page's last."""
    preferences = dict(request.message.objective_preferences)
    for arm, snapshot, surface in zip(
        rival.drafting.arms,
        (request.snapshot, rival.snapshot),
        (request.surface, rival.surface),
        strict=True,
    ):
        panel = mesh.models
        calls = SourceCalls(request.calls.deadline, panel.breakers, panel.tallies)
        for name, status in request.calls.statuses.items():
            calls.record(name, status.state, 0.0, status.detail)
        yield replace(
            request,
            request_id=f"{request.request_id}/{arm}",
            drafted_for=arm,
            snapshot=snapshot,
            surface=surface,
            preferences={} if surface.front else preferences,
            calls=calls,
            offset=0,
            page_size=request.slots,
            without_campaigns=frozenset({ALL}),
            rival=None,
        )


def _coin(rival: Rival, request_id: str) -> np.random.Generator:
    seed = hashlib.blake2b(f"{rival.drafting.experiment}/{request_id}".encode(), digest_size=8)
    return np.random.default_rng(int.from_bytes(seed.digest(), "big"))


@dataclass(frozen=True, slots=True)
class _Pick:
    item_id: str
    side: int
    credited: int
    """The side that a click speaks for; :data:`NEITHER` where both would have picked the item."""


def _picks(first: Page, second: Page, slots: int, rng: np.random.Generator) -> list[_Pick]:
    """The slots that could be filled, best first."""
    number: dict[str, int] = {}
    rankings: list[Int64] = []
    for page in (first, second):
        ids = [slot.item_id for slot in page.recommendations]
        rankings.append(np.array([[number.setdefault(i, len(number)) for i in ids]], np.int64))
    if not number:
        return []
    # A ranking without an item is one of nothing.
    padded = [np.pad(r, ((0, 0), (0, 1)), constant_values=NOBODY) for r in rankings]
    drafted = team_draft(padded[0], padded[1], slots, rng)
    names = list(number)
    return [
        _Pick(names[item], side, side if contested else NEITHER)
        for item, side, contested in zip(
            drafted.items[0].tolist(),
            drafted.team[0].tolist(),
            drafted.contested[0].tolist(),
            strict=True,
        )
        if item != NOBODY
    ]


def _say_sources(response: Page, sides: tuple[Page, Page]) -> None:
    """How sources answered both; the worse answer of two stays."""
    found: dict[str, common_pb2.SourceStatus] = {}
    for status in (status for side in sides for status in side.sources):
        known = found.setdefault(status.name, status)
        if known.state == common_pb2.SOURCE_STATE_OK:
            found[status.name] = status
    response.sources.extend(found.values())
    lacks = {d.component: d for side in sides for d in side.degradations}
    response.degradations.extend(lacks.values())
    response.degraded = bool(lacks)
    for side in sides:
        response.versions.models.update(side.versions.models)
    response.versions.catalog = sides[0].versions.catalog
    embeddings = dict.fromkeys(side.versions.embedding for side in sides)
    response.versions.embedding = "+".join(filter(None, embeddings))


async def drafted_page(mesh: Mesh, request: Admitted, rival: Rival, fill: Fill) -> Page:
    """Fills the page by two arms.

    Args:
        mesh: what pages are filled with.
        request: with the first arm's snapshot and surface.
        rival: the second arm.
        fill: makes a page for one of them.
    """
    sides = await asyncio.gather(*(fill(mesh, side) for side in _sides(mesh, request, rival)))
    first, second = sides
    picked = _picks(first, second, request.slots, _coin(rival, request.request_id))
    shown = picked[request.offset :]
    response = Page(
        request_id=request.request_id,
        relaxed_rules=dict.fromkeys((*first.relaxed_rules, *second.relaxed_rules)),
        corrected_query=first.corrected_query,
        facets=first.facets,
    )
    slots = [{slot.item_id: slot for slot in side.recommendations} for side in sides]
    for rank, pick in enumerate(shown, start=request.offset + 1):
        response.recommendations.append(slots[pick.side][pick.item_id])
        response.recommendations[-1].rank = rank
    _say_sources(response, (first, second))
    policies = dict.fromkeys(side.versions.policy for side in sides)
    response.versions.policy = "+".join(policies)
    response.versions.experiment_arms.update(request.arms)
    response.attribution_token = request.tokens.issue(
        request_id=request.request_id,
        surface=request.message.surface,
        policy_version=response.versions.policy,
        issued_at_unix_s=int(time.time()),
        user_id=request.message.user_id,
        item_ids=[pick.item_id for pick in shown],
        first_rank=request.offset + 1,
        arms=request.arms,
        picks=Picks(
            rival.drafting.experiment, rival.drafting.arms, [pick.credited for pick in shown]
        ),
    )
    last = request.offset + len(shown)
    more = any(side.next_page_token for side in sides) or len(slots[0].keys() | slots[1]) > last
    if len(shown) == request.page_size and last < MAX_SLOTS and more:
        response.next_page_token = PageToken(request.request_id, last).encode()
    response.latency.FromNanoseconds(int((time.monotonic() - request.started_s) * 1e9))
    return response
