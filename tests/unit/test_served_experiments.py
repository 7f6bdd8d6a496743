"""Pages under experiments: one way of making each, the arms said, campaigns left out."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing
from recmesh.orchestrator.experiments.assignment import assign
from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Experiment,
    ExperimentBook,
    Layer,
)
from recmesh.orchestrator.experiments.served_experiments import PageMaking, ServedExperiments
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.errors import UnavailableError
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import recommendation_pb2
from tests.memory_ledger import MemoryLedger
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset, table
from tests.unit.test_campaign_pages import CAMPAIGN

NOW = datetime.now(UTC)
TOKENS = AttributionTokens(SigningKeys((b"k" * 32,)))
USERS = [f"d{i}" for i in range(200)]


def experiment(*arms: dict[str, Any], **fields: Any) -> Experiment:
    named = [{"name": f"arm-{i}", "share": 1 / len(arms)} | arm for i, arm in enumerate(arms)]
    return Experiment.model_validate(
        {
            "name": "test",
            "layer": "pages",
            "arms": named,
            "first_bucket": 0,
            "buckets": BUCKETS,
            "starts_at": NOW - timedelta(days=1),
            "ends_at": NOW + timedelta(days=1),
        }
        | fields
    )


def book(*experiments: Experiment) -> ExperimentBook:
    layers = tuple(Layer(name=n, salt=n) for n in sorted({e.layer for e in experiments}))
    return ExperimentBook(layers=layers, experiments=experiments)


def policy(name: str, surface: str = "feed", **changed: Any) -> Policy:
    base = Policy.load()
    made = base.surfaces[surface].model_copy(update=changed)
    return base.model_copy(update={"version": name, "surfaces": {**base.surfaces, surface: made}})


@pytest.fixture
async def mesh(tmp_path: Path) -> Mesh:
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: int(item[1:]) / 10)})
    await models.refresh()
    campaigns = [CAMPAIGN, CAMPAIGN | {"campaign_id": "other", "item_ids": ["i30"]}]
    data = dataset(tmp_path)
    data.__dict__["users"] = table("users", [{"user_id": user} for user in ("reader", *USERS)])
    snapshot = replace(
        Snapshot.of(data, Policy.load(), None),
        campaigns=CampaignBook.of(table("campaigns", campaigns)),
    )
    made = Mesh(models, None, snapshot, ledger=MemoryLedger({"c": 10_000, "other": 10_000}))
    made.tokens = TOKENS
    made.pacing.post([CampaignPacing(name, 0.6, 10_000) for name in ("c", "other")])
    return made


async def page(
    mesh: Mesh, user_id: str = "reader", **fields: Any
) -> recommendation_pb2.RecommendResponse:
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user_id, **fields)
    request.context.time.seconds = NOW_UNIX_S
    return await recommend(mesh, request, math.inf)


async def test_a_page_is_made_by_the_policy_of_its_arm_and_says_so(mesh: Mesh) -> None:
    short = policy("short", page_size=3)
    served = book(experiment({}, {"policy": "short"}, surfaces=["feed"]))
    mesh.experiments = ServedExperiments(served, {("short", "", frozenset()): PageMaking(short)})
    seen = set()
    for user in USERS[:30]:
        answer = await page(mesh, user)
        arms = assign(served, user, NOW.timestamp())
        assert dict(answer.versions.experiment_arms) == arms
        treated = arms == {"test": "arm-1"}
        assert answer.versions.policy == ("short" if treated else mesh.snapshot.policy.version)
        assert len(answer.recommendations) == (3 if treated else 10)
        content = TOKENS.verified(answer.attribution_token).content
        assert content.policy_version == answer.versions.policy
        assert dict(content.experiment_arms) == arms
        seen.add(treated)
    assert seen == {True, False}


async def test_another_surface_takes_no_part(mesh: Mesh) -> None:
    served = book(experiment({}, {"policy": "short"}, surfaces=["network"]))
    mesh.experiments = ServedExperiments(
        served, {("short", "", frozenset()): PageMaking(policy("short"))}
    )
    answers = [await page(mesh, user) for user in USERS[:10]]
    assert all(not a.versions.experiment_arms for a in answers)
    assert {a.versions.policy for a in answers} == {mesh.snapshot.policy.version}


async def test_experiments_that_are_over_cost_and_change_nothing(mesh: Mesh) -> None:
    arms: list[dict[str, Any]] = [{}, {"policy": "short"}]
    over = {"ends_at": NOW - timedelta(hours=1)}
    for fields in ({"killed": True}, {"ramp": 0.0}, over):
        served = ServedExperiments(book(experiment(*arms, **fields)))
        assigned = served.of("d1", "feed", mesh.snapshot.campaigns, NOW.timestamp())
        assert assigned.arms == {}


async def test_campaigns_are_left_out_for_the_doctors_of_an_arm_alone(mesh: Mesh) -> None:
    served = book(experiment({}, {"without_campaigns": ["c"]}, {"without_campaigns": ["*"]}))
    mesh.experiments = ServedExperiments(served)
    paid_by: dict[str, set[str]] = {}
    for user in USERS[:60]:
        answer = await page(mesh, user)
        paid = {slot.sponsorship.campaign_id for slot in answer.recommendations} - {""}
        paid_by.setdefault(answer.versions.experiment_arms["test"], set()).update(paid)
    assert paid_by == {"arm-0": {"c", "other"}, "arm-1": {"other"}, "arm-2": set()}


async def test_campaigns_of_an_arm_that_takes_no_part_offer_nothing_to_anybody(
    mesh: Mesh,
) -> None:
    by_salt = {}
    for name in ("one", "two", "three", "four", "five"):
        test = experiment({}, {"takes_part": False}, name=name, unit="campaign")
        mesh.experiments = ServedExperiments(book(test))
        taking = {
            campaign
            for campaign in ("c", "other")
            if assign(book(test), campaign, NOW.timestamp(), unit="campaign")[name] == "arm-0"
        }
        answer = await page(mesh)
        shown = {s.sponsorship.campaign_id for s in answer.recommendations} - {""}
        assert shown <= taking
        assert bool(shown) == bool(taking)
        assert not answer.versions.experiment_arms, "the doctor is no unit of it"
        by_salt[name] = frozenset(taking)
    assert len(set(by_salt.values())) > 1


async def test_an_arm_searches_its_own_embedding_version(mesh: Mesh) -> None:
    live, other = (EmbeddingVersion(f"v{n}", f"c{n}", dim=8, count=40) for n in (1, 2))
    mesh.snapshot = replace(mesh.snapshot, embedding=live)
    made = mesh.snapshot.made_by(PageMaking(embedding=other))
    assert (made.embedding, made.policy) == (other, mesh.snapshot.policy)
    assert made.items is mesh.snapshot.items
    assert mesh.snapshot.made_by(PageMaking(embedding=other)) is made, "made once"
    assert mesh.snapshot.made_by(PageMaking()) is mesh.snapshot


def interleaved(**fields: Any) -> ServedExperiments:
    served = book(
        experiment({}, {"policy": "rival"}, kind="interleave", surfaces=["feed"], **fields)
    )
    rival = policy("rival", model_weights={"popular": 1.0}, objective_weights={"freshness": 1.0})
    return ServedExperiments(served, {("rival", "", frozenset()): PageMaking(rival)})


async def test_an_interleaved_page_is_drafted_from_the_pages_of_both_arms(mesh: Mesh) -> None:
    mesh.ledger = None
    own = [slot.item_id for slot in (await page(mesh)).recommendations]
    mesh.experiments = interleaved()
    rival = mesh.experiments.makings["rival", "", frozenset()].policy
    assert rival is not None
    live, mesh.snapshot = mesh.snapshot, replace(mesh.snapshot, policy=rival)
    mesh.experiments, served = ServedExperiments(), mesh.experiments
    theirs = [slot.item_id for slot in (await page(mesh)).recommendations]
    mesh.snapshot, mesh.experiments = live, served

    for number in range(20):
        answer = await page(mesh, request_id=f"r{number}")
        shown = [slot.item_id for slot in answer.recommendations]
        assert len(shown) == len(set(shown)) == 10
        assert [slot.rank for slot in answer.recommendations] == list(range(1, 11))
        assert answer.versions.policy == f"{live.policy.version}+rival"
        assert dict(answer.versions.experiment_arms) == {"test": "interleaved"}
        content = TOKENS.verified(answer.attribution_token)
        teams = [content.arms_at(slot.rank)["test"] for slot in answer.recommendations]
        # Whose turn it is takes the best that is not on the page yet.
        for place, (item, team) in enumerate(zip(shown, teams, strict=True)):
            ranking = own if team == "arm-0" else theirs
            left = [i for i in ranking if i not in shown[:place]]
            assert not left or item == left[0]
        assert all({teams[n], teams[n + 1]} == {"arm-0", "arm-1"} for n in range(0, 10, 2))


async def test_an_interleaved_page_is_the_same_again_and_pages_are_cuts_of_one_draft(
    mesh: Mesh,
) -> None:
    mesh.experiments = interleaved()
    whole = await page(mesh, request_id="r", page_size=20)
    again = await page(mesh, request_id="r", page_size=20)
    assert whole.recommendations == again.recommendations
    first = await page(mesh, request_id="r", page_size=10)
    second = await page(mesh, request_id="r", page_size=10, page_token=first.next_page_token)
    assert [*first.recommendations, *second.recommendations] == list(whole.recommendations)
    starts = {
        TOKENS.verified((await page(mesh, request_id=f"r{n}")).attribution_token).arms_at(1)["test"]
        for n in range(20)
    }
    assert starts == {"arm-0", "arm-1"}, "a coin decides who begins"


async def test_an_interleaved_page_has_no_sponsored_slots_and_holds_none(mesh: Mesh) -> None:
    assert any(s.sponsorship.campaign_id for s in (await page(mesh)).recommendations)
    assert isinstance(mesh.ledger, MemoryLedger)
    asked = mesh.ledger.asked
    mesh.experiments = interleaved()
    answer = await page(mesh)
    assert not any(s.sponsorship.campaign_id for s in answer.recommendations)
    assert mesh.ledger.asked == asked


async def test_an_interleaved_page_ends_where_both_arms_have_no_more(mesh: Mesh) -> None:
    mesh.experiments = interleaved()
    few = ["i7", "i8", "i9"]
    answer = await page(mesh, candidate_item_ids=few)
    assert sorted(slot.item_id for slot in answer.recommendations) == few
    assert answer.next_page_token == ""
    assert not (await page(mesh, candidate_item_ids=["unknown"])).recommendations


async def test_what_a_source_could_not_say_to_either_arm_is_said(mesh: Mesh) -> None:
    mesh.experiments = interleaved()
    client = mesh.models.clients["cf"]
    assert isinstance(client, FunctionModel)
    client.failure = UnavailableError("gone")
    answer = await page(mesh)
    assert answer.degraded
    assert "cf" in {d.component for d in answer.degradations}
    assert len(answer.recommendations) == 10
