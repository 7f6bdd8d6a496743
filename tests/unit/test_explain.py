"""Explanations say the stage, the rule and the value, and flips flip."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing
from recmesh.orchestrator.decisions.explain import DROPPED, NOT_RETRIEVED, SHOWN, explain
from recmesh.orchestrator.decisions.replay import replay
from recmesh.orchestrator.decisions.weight_flips import WeightFlips, _with_weights
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select
from recmesh.orchestrator.slate.why_not import why_not
from recmesh.v1 import recommendation_pb2
from tests.memory_ledger import MemoryLedger
from tests.unit.test_decisions import feed, ids, mesh_of, snapshot, the_decision, with_slate  # noqa: F401
from tests.unit.test_slate import Instance, instances, page

Explained = dict[str, recommendation_pb2.ItemExplanation]


async def explained(mesh: Mesh, *item_ids: str, **fields: Any) -> tuple[list[str], Explained]:
    response, decision = await the_decision(mesh, feed(**fields))
    answer = await explain([decision], item_ids)
    assert answer.request_id == "r1"
    return ids(response), {item.item_id: item for item in answer.items}


async def test_what_was_shown_is_explained_by_what_it_is_worth(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    response, decision = await the_decision(mesh, feed(page_size=5))
    answer = await explain([decision], [])
    assert [item.item_id for item in answer.items] == ids(response)
    for slot, item in zip(response.recommendations, answer.items, strict=True):
        assert item.outcome == SHOWN
        assert item.rank == slot.rank
        assert sum(item.contributions.values()) == pytest.approx(slot.score, abs=1e-6)
        assert item.sources
        assert not item.rule


async def test_what_was_not_shown_is_explained_by_stage_rule_and_value(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    wanted = ["i0", "i5", "i6", "i3", "unheard-of"]
    _, items = await explained(mesh, *wanted, page_size=3, exclude_item_ids=["i3"])
    said = {name: (item.outcome, item.stage, item.rule) for name, item in items.items()}
    assert said["i0"] == (DROPPED, "filter", "seen")
    assert said["i3"] == (DROPPED, "filter", "excluded-by-caller")
    licensed = "not-licensed-in-country: licensed in DE; the user is in FR"
    assert said["i5"] == (DROPPED, "filter", licensed)
    assert said["i6"] == (DROPPED, "filter", "expired: 2026-01-30T00:00:00+00:00")
    outcome, stage, rule = said["unheard-of"]
    assert (outcome, stage) == (NOT_RETRIEVED, "retrieve")
    assert "cf 40" in rule


async def test_what_the_ledger_refused_says_so(snapshot: Snapshot) -> None:  # noqa: F811
    mesh = mesh_of(snapshot)
    assert isinstance(mesh.ledger, MemoryLedger)
    mesh.ledger.budgets["small"] = 0
    _, items = await explained(mesh, "i30")
    assert items["i30"].rule == "ledger: campaign small is SPENT"


async def test_a_later_page_explains_what_an_earlier_one_shows(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    mesh.ledger = None
    first = await recommend_page(mesh, page_size=3)
    second = await recommend_page(mesh, page_size=3, page_token=first.next_page_token)
    assert mesh.decisions is not None
    pages = await mesh.decisions.find("r1", timeout_s=1)
    top = first.recommendations[0].item_id
    (item,) = (await explain(pages, [top])).items
    assert (item.outcome, item.rank) == (SHOWN, 1)
    (item,) = (await explain(pages[1:], [top])).items
    assert item.rule == "page: an earlier page of the request shows it in slot 1"
    (item,) = (await explain(pages, [second.recommendations[2].item_id])).items
    assert item.rank == 6


async def recommend_page(mesh: Mesh, **fields: Any) -> recommendation_pb2.RecommendResponse:
    return await recommend(mesh, feed(**fields), math.inf)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(0, 39))
async def test_a_flip_flips(snapshot: Snapshot, seed: int, item: int) -> None:  # noqa: F811
    mesh = mesh_of(snapshot, seed)
    with_slate(mesh, diversity_strength=0.1, max_per_topic=2)
    _, decision = await the_decision(mesh, feed(page_size=6))
    replayed = await replay(decision)
    position = item % len(replayed.rows)
    flip = await WeightFlips(decision, replayed).of(position)
    shown = position in replayed.page.tolist()
    if flip is None:
        return
    weights = replayed.blended.weights
    assert flip.weight == pytest.approx(weights[flip.objective])

    async def page_at(weight: float) -> list[int]:
        rest = (1 - weight) / (1 - flip.weight)
        moved = {name: share * rest for name, share in weights.items()} | {flip.objective: weight}
        again = await replay(_with_weights(decision, moved))
        page: list[int] = again.page.tolist()
        return page

    assert (position in await page_at(flip.flipped_weight)) != shown
    assert (position in await page_at(flip.weight)) == shown


async def test_a_weight_that_decides_alone_cannot_move(snapshot: Snapshot) -> None:  # noqa: F811
    mesh = mesh_of(snapshot)
    policy = mesh.snapshot.policy
    surface = policy.surfaces["feed"].model_copy(update={"objective_weights": {"freshness": 1.0}})
    policy = policy.model_copy(update={"surfaces": {"feed": surface}})
    mesh.snapshot = replace(mesh.snapshot, policy=policy)
    _, items = await explained(mesh)
    assert all(not item.HasField("flip") for item in items.values())


async def test_a_campaign_that_would_cost_too_much_says_so(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    mesh.pacing.post([CampaignPacing("c", 0.6, 100), CampaignPacing("small", 0.0, 0)])
    policy = mesh.snapshot.policy
    rules = policy.surfaces["feed"].campaigns.model_copy(update={"most_organic_loss": 0.0})
    surface = policy.surfaces["feed"].model_copy(update={"campaigns": rules})
    policy = policy.model_copy(update={"surfaces": {"feed": surface}})
    mesh.snapshot = replace(mesh.snapshot, policy=policy)
    response, decision = await the_decision(mesh, feed())
    assert not any(slot.sponsorship.campaign_id for slot in response.recommendations)
    answer = await explain([decision], ["i37", "i38", "i39"])
    assert any(item.rule.startswith("most_organic_loss") for item in answer.items)


@settings(max_examples=300, deadline=None)
@given(instances)
def test_everybody_who_is_left_out_is_told_why(instance: Instance) -> None:
    slate = instance.slate()
    left_out = set(range(len(instance.candidates))) - set(slate.chosen.tolist())
    for i in left_out:
        found = why_not(instance.candidates, instance.rules, slate.chosen, i)
        assert found.rule
        assert found.value


def test_the_rule_that_is_to_blame_is_named() -> None:
    candidates = page([0.9, 0.8, 0.7, 0.1], [1, 1, 1, 2], author=np.array([5, 5, 6, 7]))

    def rule(i: int, **rules: Any) -> str:
        limits = SlateRules(**rules)
        return why_not(candidates, limits, select(candidates, limits, 2).chosen, i).rule

    assert rule(2) == "value"
    assert rule(1, max_per_author=1) == "max_per_author"
    assert rule(2, max_per_topic=1) == "max_per_topic"
    sponsored = replace(candidates, sponsored=np.array([True, True, False, False]))
    limits = SlateRules(sponsored_share=0.5)
    chosen = select(sponsored, limits, 2).chosen
    assert chosen.tolist() == [2, 0]
    assert why_not(sponsored, limits, chosen, 1).rule == "sponsored_share"


def test_who_could_have_had_a_slot_by_chance_is_told_how_likely() -> None:
    candidates = page([0.5, 0.49, 0.1], [1, 2, 4])
    rules = SlateRules(temperature=0.1, most_chance_loss=0.05)
    found = why_not(candidates, rules, np.array([1], np.int32), 0)
    assert found.rule == "temperature"
    assert "probability 0.525" in found.value
