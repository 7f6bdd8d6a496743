from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.operating_point import OperatingPoint
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.storage.errors import DeadlineError, InvalidRequestError, UnavailableError
from recmesh.v1 import common_pb2, model_pb2, recommendation_pb2
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset


def number(item_id: str) -> int:
    return int(item_id[1:])


@pytest.fixture
def cf() -> FunctionModel:
    return FunctionModel("cf", lambda item: number(item) / 10)


@pytest.fixture
def behavioral() -> FunctionModel:
    return FunctionModel("behavioral", lambda item: -number(item) / 10)


@pytest.fixture
async def mesh(tmp_path: Path, cf: FunctionModel, behavioral: FunctionModel) -> Mesh:
    models = ModelPanel({"cf": cf, "behavioral": behavioral})
    await models.refresh()
    return Mesh(models, None, Snapshot.of(dataset(tmp_path), Policy.load(), None))


def feed(**fields: object) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest(
        request_id="r1", surface="feed", user_id="reader", **fields
    )
    request.context.time.seconds = NOW_UNIX_S
    return request


def ids(response: recommendation_pb2.RecommendResponse) -> list[str]:
    return [slot.item_id for slot in response.recommendations]


async def test_a_page_has_distinct_eligible_items_in_rank_order(mesh: Mesh) -> None:
    response = await recommend(mesh, feed(page_size=20), math.inf)
    shown = ids(response)
    assert len(shown) == len(set(shown)) == 20
    assert [slot.rank for slot in response.recommendations] == list(range(1, 21))
    assert not {"i0", "i1"} & set(shown), "already read"
    assert "i5" not in shown, "licensed in another country"
    assert "i6" not in shown, "expired"


async def test_the_same_request_gives_the_same_page(mesh: Mesh) -> None:
    first, second = [await recommend(mesh, feed(), math.inf) for _ in range(2)]
    first.ClearField("latency"), second.ClearField("latency")
    for response in (first, second):
        for status in response.sources:
            status.ClearField("latency")
    assert first == second


async def test_pages_are_cuts_of_one_slate(mesh: Mesh) -> None:
    whole = ids(await recommend(mesh, feed(page_size=20), math.inf))
    first = await recommend(mesh, feed(page_size=10), math.inf)
    second = await recommend(mesh, feed(page_size=10, page_token=first.next_page_token), math.inf)
    assert ids(first) + ids(second) == whole


async def test_what_retrieval_scored_is_not_asked_again(mesh: Mesh, cf: FunctionModel) -> None:
    await recommend(mesh, feed(), math.inf)
    assert cf.scored == []


async def test_a_dead_model_degrades_the_page_and_is_named(mesh: Mesh, cf: FunctionModel) -> None:
    cf.failure = UnavailableError("gone")
    response = await recommend(mesh, feed(), math.inf)
    assert len(response.recommendations) == 10
    assert response.degraded
    assert "cf" in [d.component for d in response.degradations]
    state = {s.name: s.state for s in response.sources}
    assert state["cf"] == common_pb2.SOURCE_STATE_UNAVAILABLE
    assert state["behavioral"] == common_pb2.SOURCE_STATE_OK


async def test_a_model_that_breaks_the_contract_is_done_without(
    mesh: Mesh, cf: FunctionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def short_of_scores(request: object, *, timeout_s: float) -> model_pb2.RetrieveResponse:
        return model_pb2.RetrieveResponse(item_ids=["i7", "i8"], scores=[1.0])

    monkeypatch.setattr(cf, "retrieve", short_of_scores)
    response = await recommend(mesh, feed(), math.inf)
    assert len(response.recommendations) == 10
    assert response.degraded
    assert "gave 1 scores for 2 items" in [d.reason for d in response.degradations]


async def test_a_slow_model_costs_its_timeout_and_no_more(
    mesh: Mesh, behavioral: FunctionModel
) -> None:
    behavioral.delay_s = 30.0
    response = await recommend(mesh, feed(), math.inf)
    state = {s.name: s.state for s in response.sources}
    assert state["behavioral"] == common_pb2.SOURCE_STATE_TIMEOUT
    assert len(response.recommendations) == 10


async def test_with_every_model_down_the_floor_fills_the_page(
    mesh: Mesh, cf: FunctionModel, behavioral: FunctionModel
) -> None:
    cf.failure = behavioral.failure = UnavailableError("gone")
    response = await recommend(mesh, feed(), math.inf)
    assert len(response.recommendations) == 10
    assert response.degraded


async def test_what_a_model_last_proposed_stands_in_for_it(
    mesh: Mesh, cf: FunctionModel, behavioral: FunctionModel
) -> None:
    whole = await recommend(mesh, feed(), math.inf)
    cf.failure = behavioral.failure = UnavailableError("gone")
    response = await recommend(mesh, feed(), math.inf)
    assert ids(response) == ids(whole)
    assert [slot.score for slot in response.recommendations] == [
        slot.score for slot in whole.recommendations
    ]
    assert response.degraded
    (said,) = [status for status in response.sources if status.name == "cf"]
    assert (said.state, said.version) == (common_pb2.SOURCE_STATE_UNAVAILABLE, "1")
    assert said.HasField("answer_age")
    assert {d.effect for d in response.degradations if d.component in ("cf", "behavioral")} == {
        "the page uses what it proposed 0 s ago"
    }


@pytest.mark.parametrize("otherwise", ["another doctor", "another surface", "another version"])
async def test_what_a_model_proposed_stands_in_for_nothing_else(
    mesh: Mesh, cf: FunctionModel, otherwise: str
) -> None:
    await recommend(mesh, feed(), math.inf)
    request = feed()
    if otherwise == "another doctor":
        request.user_id = "colleague"
    elif otherwise == "another surface":
        request.surface = "swipe"
    else:
        cf.version = "2"
        await mesh.models.refresh()
    cf.failure = UnavailableError("gone")
    response = await recommend(mesh, request, math.inf)
    (said,) = [status for status in response.sources if status.name == "cf"]
    assert not said.HasField("answer_age")
    assert not said.version


async def test_an_unknown_doctor_gets_a_page(mesh: Mesh) -> None:
    request = feed()
    request.user_id = "nobody has heard of her"
    assert len((await recommend(mesh, request, math.inf)).recommendations) == 10


async def test_the_network_surface_recommends_other_doctors(mesh: Mesh) -> None:
    request = recommendation_pb2.RecommendRequest(surface="network", user_id="reader")
    assert ids(await recommend(mesh, request, math.inf)) == ["stranger"]


async def test_an_empty_catalog_gives_an_empty_page(tmp_path: Path) -> None:
    empty = Snapshot.of(dataset(tmp_path, n_items=0), Policy.load(), None)
    response = await recommend(Mesh(ModelPanel({}), None, empty), feed(), math.inf)
    assert ids(response) == []


async def test_reranking_uses_exactly_the_callers_items(mesh: Mesh) -> None:
    request = feed(candidate_item_ids=["i7", "i0", "unheard-of", "i30"])
    assert set(ids(await recommend(mesh, request, math.inf))) == {"i7", "i0", "i30"}


async def test_explain_says_where_items_come_from(mesh: Mesh) -> None:
    response = await recommend(mesh, feed(explain=True), math.inf)
    slot = response.recommendations[0]
    assert slot.sources
    assert slot.reason
    assert set(slot.objective_scores) == {"relevance", "freshness", "novelty"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_token": "garbage"}, "page_token"),
        ({"query": "not on the feed"}, "query"),
        ({"objective_preferences": {"fame": 1.0}}, "objective_preferences"),
    ],
)
async def test_bad_input_names_the_field(mesh: Mesh, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: ") as raised:
        await recommend(mesh, feed(**fields), math.inf)
    assert raised.value.field == field


def with_front(mesh: Mesh) -> None:
    """Gives the feed a front of two points: popular items, or whatever is fresh."""
    points = [
        OperatingPoint(
            metrics={"ndcg": ndcg, "freshness": freshness},
            model_weights={"popular": 1.0},
            objective_weights=weights,
            half_life_days=1.0,
            diversity_strength=0.0,
        )
        for ndcg, freshness, weights in (
            (0.2, 0.1, {"relevance": 1.0}),
            (0.1, 0.9, {"freshness": 1.0}),
        )
    ]
    feed_policy = mesh.snapshot.policy.surfaces["feed"]
    changed = feed_policy.model_copy(update={"front": tuple(points)})
    mesh.snapshot.policy.surfaces["feed"] = changed


async def test_preferences_choose_a_point_of_the_front(mesh: Mesh) -> None:
    with_front(mesh)
    fresh = await recommend(mesh, feed(objective_preferences={"freshness": 1.0}), math.inf)
    assert ids(fresh)[0] == "i2", "the freshest that was not read"
    popular = await recommend(mesh, feed(objective_preferences={"relevance": 1.0}), math.inf)
    assert ids(popular)[0] == "i3"
    assert ids(await recommend(mesh, feed(), math.inf)) == ids(
        await recommend(mesh, feed(objective_preferences={"relevance": 0.0}), math.inf)
    )


async def test_a_front_takes_preferences_for_what_it_was_measured_by(mesh: Mesh) -> None:
    with_front(mesh)
    with pytest.raises(InvalidRequestError, match="known here are freshness, relevance"):
        await recommend(mesh, feed(objective_preferences={"novelty": 1.0}), math.inf)


async def test_an_unknown_surface_is_refused_with_the_known_ones(mesh: Mesh) -> None:
    request = feed()
    request.surface = "billboard"
    with pytest.raises(InvalidRequestError, match="feed, search, swipe, network"):
        await recommend(mesh, request, math.inf)


async def test_a_deadline_that_leaves_no_time_is_said_at_once(mesh: Mesh) -> None:
    with pytest.raises(DeadlineError):
        await recommend(mesh, feed(), 0.001)


def with_feed(mesh: Mesh, **changes: object) -> Mesh:
    policy = mesh.snapshot.policy
    feed = policy.surfaces["feed"].model_copy(update=changes)
    changed = policy.model_copy(update={"surfaces": {**policy.surfaces, "feed": feed}})
    return replace(mesh, snapshot=replace(mesh.snapshot, policy=changed))


async def test_the_policy_pins_boosts_and_blocks(mesh: Mesh) -> None:
    first = ids(await recommend(mesh, feed(), math.inf))[0]
    edited = with_feed(mesh, pins={"i38": 2, "i6": 1}, boosts={"i20": 1.0}, blocks=(first,))
    response = await recommend(edited, feed(page_size=20, explain=True), math.inf)
    shown = ids(response)
    assert shown[:2] == ["i20", "i38"], "i6 has expired, so its pin falls"
    assert first not in shown
    assert "pinned" in response.recommendations[1].sources


async def test_pages_follow_the_users_interests(mesh: Mesh) -> None:
    # The reader has read i0 and i1, of topics t0 and t1.
    slate = SlateRules(calibration_weight=10.0)
    shown = ids(await recommend(with_feed(mesh, slate=slate), feed(), math.inf))
    assert {number(item) % 4 for item in shown} == {0, 1}
