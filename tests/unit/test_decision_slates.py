"""Recorded pages become a log that other policies are judged by."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recmesh.offline.off_policy.decision_slates import DecisionSlates, usual_slots
from recmesh.offline.off_policy.evaluate import slate_estimates
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.errors import DataError
from tests.memory_ledger import MemoryLedger
from tests.unit.test_decisions import feed, ids, mesh_of, recorded, snapshot, with_slate  # noqa: F401

SLOTS = 3


def exploring(snapshot: Snapshot, **rules: Any) -> Mesh:  # noqa: F811
    mesh = mesh_of(snapshot)
    with_slate(
        mesh,
        **{"temperature": 0.05, "most_chance_loss": 1.0, "diversity_strength": 0.1, **rules},
    )
    return mesh


def with_weights(policy: Policy, **weights: float) -> Policy:
    surface = policy.surfaces["feed"].model_copy(update={"objective_weights": weights})
    return policy.model_copy(update={"surfaces": {**policy.surfaces, "feed": surface}})


async def pages_of(mesh: Mesh, count: int, user: str = "doctor {}") -> list[Decision]:
    for n in range(count):
        request = feed(request_id=f"r{n}", page_size=SLOTS, user_id=user.format(n))
        await recommend(mesh, request, math.inf)
    return recorded(mesh)


def judged(policy: Policy, pages: list[Decision], rewards: dict[tuple[str, str], float]) -> Any:
    slates = DecisionSlates(policy, rewards, SLOTS)
    for page in pages:
        slates.add(page)
    return slates


async def test_the_policy_that_filled_the_pages_is_worth_what_they_earned(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = exploring(snapshot)
    pages = await pages_of(mesh, 30)
    rewards = {(f"r{n}", item): 1.0 for n in range(0, 30, 2) for item in ("i3", "i7", "i10")}
    log = judged(mesh.snapshot.policy, pages, rewards).log()
    np.testing.assert_array_equal(log.logging.given_above, log.new.given_above)
    np.testing.assert_allclose(log.logging.in_slot[:, 0], log.logging.given_above[:, 0])
    np.testing.assert_allclose(log.new.in_slot[:, 0], log.new.given_above[:, 0])
    for estimate in slate_estimates(log)[:2]:
        assert estimate.interval.value == pytest.approx(log.reward.sum() / len(pages))


async def test_a_policy_is_worth_what_it_earns_when_it_serves(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    """Readers like fresh items, the more so the higher they stand."""
    count, rng = 300, np.random.default_rng(3)
    mesh = exploring(snapshot)
    mesh.ledger, mesh.pacing = MemoryLedger({}), type(mesh.pacing)()
    mesh.pacing.post([])

    def liked(item: str, rank: int) -> float:
        return 0.9 * math.exp(-int(item[1:]) / 10) / rank

    pages = await pages_of(mesh, count)
    rewards: dict[tuple[str, str], float] = {}
    for n, page in enumerate(pages):
        for rank, item in enumerate(ids_of(page), start=1):
            rewards[f"r{n}", item] = float(rng.random() < liked(item, rank))
    policy = mesh.snapshot.policy
    other = with_weights(policy, relevance=0.7, freshness=0.3)
    serving = exploring(replace(snapshot, policy=other))
    serving.ledger, serving.pacing = mesh.ledger, mesh.pacing
    truth = []
    for n in range(count):
        request = feed(request_id=f"t{n}", page_size=SLOTS, user_id=f"doctor {n}")
        served = await recommend(serving, request, math.inf)
        truth.append(sum(liked(item, rank) for rank, item in enumerate(ids(served), start=1)))
    slates = judged(serving.snapshot.policy, pages, rewards)
    log = slates.log()
    own = [sum(liked(i, rank) for rank, i in enumerate(ids_of(page), start=1)) for page in pages]
    assert np.mean(truth) > np.mean(own) * 1.05, "a difference worth finding"
    for estimate in slate_estimates(log):
        assert estimate.usable, estimate.support.refusals
        error = estimate.interval.value - np.mean(truth)
        assert abs(error) < 4 * estimate.interval.standard_error
        assert abs(error) < 0.15 * np.mean(truth)


async def test_pages_without_chance_tell_of_no_other_policy(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = exploring(snapshot, temperature=0.0)
    pages = await pages_of(mesh, 30)
    rewards = {(f"r{n}", ids_of(page)[0]): 1.0 for n, page in enumerate(pages)}
    other = with_weights(mesh.snapshot.policy, freshness=1.0)
    assert not any(one.usable for one in slate_estimates(judged(other, pages, rewards).log()))


def ids_of(page: Decision) -> list[str]:
    rows = page.considered.candidates.rows[page.considered.filtered.kept][page.slate.chosen]
    return [page.considered.request.catalog.item_ids[row] for row in rows.tolist()]


async def test_what_tells_nothing_is_left_out_and_counted(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = exploring(snapshot)
    (page,) = await pages_of(mesh, 1)
    considered, request = page.considered, page.considered.request

    def changed(**fields: Any) -> Decision:
        return replace(page, considered=replace(considered, request=replace(request, **fields)))

    slates = DecisionSlates(mesh.snapshot.policy, {}, SLOTS)
    slates.add(changed(drafted_for="arm"))
    slates.add(changed(offset=3))
    slates.add(replace(page, slate=replace(page.slate, chosen=page.slate.chosen[:2])))
    out = slates.left_out
    assert (out.interleaved, out.later, out.short) == (1, 1, 1)
    with pytest.raises(DataError, match="no recorded page has 3 slots"):
        slates.log()
    assert usual_slots([page, page]) == SLOTS
    assert usual_slots([]) == 0


async def test_campaigns_that_were_refused_are_no_choice(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = exploring(snapshot, sponsored_share=1.0, sponsored_spacing=0)
    mesh.pacing.post([CampaignPacing("c", 0.6, 100), CampaignPacing("small", 0.6, 100)])
    mesh.ledger = MemoryLedger({"c": 0, "small": 100})
    pages = await pages_of(mesh, 10, user="reader")
    holds = Counter(h for page in pages for one in page.attempts for h in one.holds or ())
    assert len(holds) == 2, "some were held, some refused"
    log = judged(mesh.snapshot.policy, pages, {}).log()
    np.testing.assert_array_equal(log.logging.given_above, log.new.given_above)
