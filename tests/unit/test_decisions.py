"""Recorded pages come out of their bytes as they went in, and are chosen again as they were."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing, Hold
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.decisions.replay import differences, replay, unasked, under
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.errors import DataError, InvalidRequestError, UnavailableError
from recmesh.storage.interchange import TIMESTAMP
from recmesh.v1 import recommendation_pb2
from tests.memory_decisions import MemoryDecisions
from tests.memory_ledger import MemoryLedger
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset, table
from tests.unit.test_campaign_pages import CAMPAIGN

Made = Callable[..., Mesh]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """With two campaigns, of which one has two impressions."""
    patient = Policy.load().patient(60.0)
    found = Snapshot.of(dataset(tmp_path_factory.mktemp("world")), patient, None)
    small = CAMPAIGN | {"campaign_id": "small", "item_ids": ["i30"], "sponsor": "Small Pharma"}
    return replace(found, campaigns=CampaignBook.of(table("campaigns", [CAMPAIGN, small])))


def mesh_of(snapshot: Snapshot, seed: int = 0) -> Mesh:
    """Records its pages; models' opinions are drawn."""
    rng = np.random.default_rng(seed)
    opinions = {name: rng.normal(size=40) for name in ("cf", "behavioral", "nlp")}
    models = {
        name: FunctionModel(name, lambda item, of=of: float(of[int(item[1:])]))
        for name, of in opinions.items()
    }
    mesh = Mesh(ModelPanel(models), None, snapshot)
    mesh.decisions = MemoryDecisions()
    mesh.ledger = MemoryLedger({"c": 100, "small": 1})
    mesh.pacing.post([CampaignPacing("c", 0.4, 100), CampaignPacing("small", 0.5, 1)])
    shown = [("i7", "", "other"), ("i8", "c", "other"), ("i37", "c", "r1"), ("i9", "", "")]
    mesh.impressions.take(
        pa.table(
            {
                "user_id": ["reader"] * len(shown),
                "item_id": [item for item, _, _ in shown],
                "campaign_id": [campaign for _, campaign, _ in shown],
                "request_id": [request for _, _, request in shown],
                "event_type": ["impression"] * len(shown),
                "counted": [True] * len(shown),
                "received_at": pa.array(
                    [1000 * (NOW_UNIX_S - 60 * n) for n in range(len(shown), 0, -1)], pa.int64()
                ).cast(TIMESTAMP),
            }
        ),
        NOW_UNIX_S,
    )
    return mesh


def with_slate(mesh: Mesh, **rules: Any) -> None:
    """Gives the feed other slate rules."""
    policy = mesh.snapshot.policy
    surfaces = {
        name: surface.model_copy(update={"slate": surface.slate.model_copy(update=rules)})
        for name, surface in policy.surfaces.items()
    }
    mesh.snapshot = replace(mesh.snapshot, policy=policy.model_copy(update={"surfaces": surfaces}))


def feed(**fields: Any) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest(
        **{"request_id": "r1", "surface": "feed", "user_id": "reader", **fields}
    )
    request.context.time.seconds = NOW_UNIX_S
    return request


def recorded(mesh: Mesh) -> list[Decision]:
    """What either of the two ways to the log has taken."""
    assert isinstance(mesh.decisions, MemoryDecisions)
    assert isinstance(mesh.ledger, MemoryLedger)
    found = {**mesh.ledger.decisions, **mesh.decisions.records}
    return [opened(record) for record in found.values()]


async def the_decision(
    mesh: Mesh, request: recommendation_pb2.RecommendRequest
) -> tuple[recommendation_pb2.RecommendResponse, Decision]:
    response = await recommend(mesh, request, math.inf)
    (decision,) = recorded(mesh)
    return response, decision


def ids(response: recommendation_pb2.RecommendResponse) -> list[str]:
    return [slot.item_id for slot in response.recommendations]


rules = st.fixed_dictionaries(
    {
        "diversity": st.sampled_from(["mmr", "dpp"]),
        "diversity_strength": st.sampled_from([0.0, 0.1, 0.5]),
        "calibration_weight": st.sampled_from([0.0, 0.1, 1.0]),
        "max_per_topic": st.sampled_from([None, 1, 3]),
        "max_per_author": st.sampled_from([None, 1]),
        "max_per_topic_recently": st.sampled_from([None, 2]),
        "max_per_sponsor_recently": st.sampled_from([None, 1, 2]),
        "sponsored_share": st.sampled_from([0.0, 0.2, 0.5]),
        "exploration_slots": st.sampled_from([(), (2, 4)]),
        "temperature": st.sampled_from([0.0, 0.05, 0.5]),
        "most_chance_loss": st.sampled_from([0.02, 1.0]),
    }
)
requests = st.fixed_dictionaries(
    {
        "request_id": st.text("ab1", min_size=1, max_size=4),
        "surface": st.sampled_from(["feed", "swipe"]),
        "user_id": st.sampled_from(["reader", "colleague", "nobody"]),
        "page_size": st.integers(1, 20),
        "objective_preferences": st.sampled_from([{}, {"novelty": 0.5}, {"freshness": 1.0}]),
        "exclude_item_ids": st.sampled_from([[], ["i3", "unknown"]]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 5), rules, requests)
async def test_what_is_recorded_is_chosen_again(
    snapshot: Snapshot, seed: int, slate: dict[str, Any], request_: dict[str, Any]
) -> None:
    mesh = mesh_of(snapshot, seed)
    with_slate(mesh, **slate)
    response, decision = await the_decision(mesh, feed(**request_))
    again = await replay(decision)
    assert differences(decision.slate, again) == []
    assert again.item_ids == ids(response)
    by_item = {slot.item_id: slot.score for slot in response.recommendations}
    assert again.blended.utility[again.page].tolist() == list(by_item.values())
    assert decision.answer.versions == response.versions


async def test_the_next_page_is_a_decision_of_its_own(snapshot: Snapshot) -> None:
    mesh = mesh_of(snapshot)
    with_slate(mesh, temperature=0.1)
    first = await recommend(mesh, feed(page_size=4), math.inf)
    token = first.next_page_token
    second = await recommend(mesh, feed(page_size=4, page_token=token), math.inf)
    assert isinstance(mesh.decisions, MemoryDecisions)
    mesh.decisions.records |= mesh.ledger.decisions  # type: ignore[union-attr]
    pages = await mesh.decisions.find("r1", timeout_s=1)
    assert [(await replay(page)).item_ids for page in pages] == [ids(first), ids(second)]


async def test_a_sponsored_page_is_recorded_with_its_slots(snapshot: Snapshot) -> None:
    mesh = mesh_of(snapshot)
    response, decision = await the_decision(mesh, feed())
    assert any(slot.sponsorship.campaign_id for slot in response.recommendations)
    assert isinstance(mesh.decisions, MemoryDecisions)
    assert not mesh.decisions.records, "once is enough"
    assert decision.attempts[-1].granted


async def test_what_the_ledger_refused_is_refused_again(snapshot: Snapshot) -> None:
    mesh = mesh_of(snapshot)
    assert isinstance(mesh.ledger, MemoryLedger)
    mesh.ledger.budgets["small"] = 0
    response, decision = await the_decision(mesh, feed())
    refused = [h for attempt in decision.attempts for h in attempt.holds or () if h != Hold.HELD]
    assert refused == [Hold.SPENT]
    again = await replay(decision)
    assert again.item_ids == ids(response)
    assert differences(decision.slate, again) == []


async def test_a_ledger_that_did_not_answer_does_not_answer_again(snapshot: Snapshot) -> None:
    mesh = mesh_of(snapshot)
    assert isinstance(mesh.ledger, MemoryLedger)
    mesh.ledger.failure = UnavailableError("gone")
    response, decision = await the_decision(mesh, feed())
    assert decision.attempts[0].holds is None
    assert (await replay(decision)).item_ids == ids(response)


async def test_another_policy_gives_another_page_from_the_same_candidates(
    snapshot: Snapshot,
) -> None:
    mesh = mesh_of(snapshot)
    response, decision = await the_decision(mesh, feed())
    policy = mesh.snapshot.policy
    surface = policy.surfaces["feed"].model_copy(
        update={
            "objective_weights": {"freshness": 1.0},
            "model_weights": {"cf": 1.0, "network": 1.0},
            "slate": policy.surfaces["feed"].slate.model_copy(update={"sponsored_share": 0.0}),
        }
    )
    other = policy.model_copy(update={"surfaces": {"feed": surface}})
    elsewhere = under(decision, other)
    again = await replay(elsewhere)
    served = mesh_of(replace(snapshot, policy=other))
    assert again.item_ids == ids(await recommend(served, feed(), math.inf))
    assert again.item_ids != ids(response)
    assert unasked(elsewhere) == ["network"]
    assert differences(decision.slate, await replay(decision)) == []


async def test_a_policy_without_the_surface_is_refused(snapshot: Snapshot) -> None:
    _, decision = await the_decision(mesh_of(snapshot), feed())
    nothing = snapshot.policy.model_copy(update={"surfaces": {}})
    with pytest.raises(InvalidRequestError, match="has no surface feed"):
        under(decision, nothing)


async def test_a_changed_record_is_noticed(snapshot: Snapshot) -> None:
    _, decision = await the_decision(mesh_of(snapshot), feed())
    chosen = decision.slate.chosen[::-1].copy()
    changed = replace(decision.slate, chosen=chosen)
    assert differences(changed, await replay(decision)) == ["the slate"]


def test_bytes_that_are_no_record_are_refused() -> None:
    for bad in (b"", b"\x10\0\0\0abc", b"\xff\xff\xff\xffabc"):
        with pytest.raises(DataError):
            opened(bad)
