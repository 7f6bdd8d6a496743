"""A version beside the live one: who is asked it, what mirrors to it, what stops it."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recmesh.deployments.experiment_follower import ExperimentFollower
from recmesh.deployments.trial_stopper import WHO, TrialStopper
from recmesh.orchestrator.experiments.experiment import BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.model_trials.shadow_mirror import MOST_PAGES
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import common_pb2, recommendation_pb2
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset

USERS = [f"d{i}" for i in range(60)]
BESIDE = "cf@2"


@pytest.fixture
def new() -> FunctionModel:
    """Thinks the opposite of the live version."""
    return FunctionModel("cf", lambda item: -int(item[1:]) / 10, version="2")


@pytest.fixture
async def mesh(tmp_path: Path, new: FunctionModel) -> Mesh:
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: int(item[1:]) / 10)})
    models.join(BESIDE, new)
    await models.refresh()
    return Mesh(models, None, Snapshot.of(dataset(tmp_path), Policy.load(), None))


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path / "experiments")


@pytest.fixture
def follower(mesh: Mesh, store: ExperimentStore, tmp_path: Path) -> ExperimentFollower:
    return ExperimentFollower(store, PolicyStore(tmp_path / "policies"), mesh)


def start(store: ExperimentStore, version: str = "2") -> None:
    now = datetime.now(UTC)
    canary = Experiment.model_validate(
        {
            "name": "canary",
            "layer": "pages",
            "arms": [
                {"name": "live", "share": 0.5},
                {"name": "new", "share": 0.5, "models": {"cf": version}},
            ],
            "first_bucket": 0,
            "buckets": BUCKETS,
            "starts_at": now - timedelta(days=1),
            "ends_at": now + timedelta(days=1),
        }
    )
    store.create(canary, days=2, file="", plan={}, by="ada")
    store.start("canary", 1.0, "ada", now)


async def page(mesh: Mesh, user: str) -> recommendation_pb2.RecommendResponse:
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user, page_size=5)
    request.context.time.seconds = NOW_UNIX_S
    return await recommend(mesh, request, math.inf)


def cf(answer: recommendation_pb2.RecommendResponse) -> common_pb2.SourceStatus:
    return next(source for source in answer.sources if source.name == "cf")


async def test_an_arm_asks_its_version_of_a_model_and_says_so(
    mesh: Mesh, store: ExperimentStore, follower: ExperimentFollower
) -> None:
    start(store)
    await follower.look()
    pages = {"live": set[str](), "new": set[str]()}
    for user in USERS:
        answer = await page(mesh, user)
        arm = answer.versions.experiment_arms["canary"]
        assert cf(answer).version == {"live": "1", "new": "2"}[arm]
        pages[arm].add(",".join(slot.item_id for slot in answer.recommendations))
    assert len(pages["live"]) == len(pages["new"]) == 1
    assert pages["live"] != pages["new"]


async def test_an_arm_whose_version_does_not_run_leaves_the_experiment_out(
    mesh: Mesh, store: ExperimentStore, follower: ExperimentFollower
) -> None:
    start(store, version="3")
    await follower.look()
    assert {cf(await page(mesh, user)).version for user in USERS[:9]} == {"1"}
    later = FunctionModel("cf", lambda _: 0.5, version="3")
    mesh.models.join("cf@3", later)
    await mesh.models.refresh()
    await follower.look()
    assert {cf(await page(mesh, user)).version for user in USERS} == {"1", "3"}
    await mesh.models.leave("cf@3").close()
    await follower.look()
    assert {cf(await page(mesh, user)).version for user in USERS} == {"1"}


async def test_a_version_that_became_the_live_one_is_asked_where_that_is(
    mesh: Mesh, store: ExperimentStore, follower: ExperimentFollower
) -> None:
    start(store)
    mesh.models.clients["cf"] = FunctionModel("cf", lambda _: 0.5, version="2")
    await mesh.models.refresh()
    await mesh.models.leave(BESIDE).close()
    await follower.look()
    answers = [await page(mesh, user) for user in USERS[:9]]
    assert {cf(answer).version for answer in answers} == {"2"}
    assert all(answer.versions.experiment_arms for answer in answers)


async def settled() -> None:
    while tasks := [t for t in asyncio.all_tasks() if t.get_name().startswith("shadow-")]:
        await asyncio.gather(*tasks)


async def test_a_shadow_is_asked_the_same_and_changes_nothing(
    mesh: Mesh, new: FunctionModel
) -> None:
    shown = await page(mesh, "reader")
    assert mesh.models.tallies[BESIDE].calls == 0, "nothing waits for a shadow"
    await settled()
    assert mesh.models.tallies[BESIDE].calls > 0
    seen = mesh.shadows.mirrored[BESIDE]
    assert seen.pages == 1
    assert seen.agreement.overlap_at_10.value == 0.0
    assert seen.agreement.rank_correlation.value == pytest.approx(-1.0)
    assert mesh.models.tallies[BESIDE].failures == 0
    await mesh.models.leave(BESIDE).close()
    again = await page(mesh, "reader")
    assert [s.item_id for s in again.recommendations] == [s.item_id for s in shown.recommendations]


async def test_a_broken_or_slow_shadow_costs_no_page_and_is_counted(
    mesh: Mesh, new: FunctionModel
) -> None:
    new.failure = UnavailableError("gone")
    assert cf(await page(mesh, "reader")).state == common_pb2.SOURCE_STATE_OK
    await settled()
    assert mesh.models.tallies[BESIDE].failures == mesh.models.tallies[BESIDE].calls > 0
    new.failure, new.delay_s = None, 60.0
    for user in USERS[: MOST_PAGES + 3]:
        await page(mesh, user)
    assert mesh.shadows.mirrored[BESIDE].left_out == 3
    await mesh.shadows.close()


async def test_what_makes_pages_is_not_mirrored_to(
    mesh: Mesh, new: FunctionModel, store: ExperimentStore, follower: ExperimentFollower
) -> None:
    start(store)
    await follower.look()
    for user in USERS[:9]:
        await page(mesh, user)
    await settled()
    assert mesh.shadows.mirrored == {}


async def test_a_version_that_fails_is_stopped_for_all_by_the_book(
    mesh: Mesh, new: FunctionModel, store: ExperimentStore, follower: ExperimentFollower
) -> None:
    start(store)
    await follower.look()
    guard = TrialStopper(store, mesh)
    new.failure = UnavailableError("gone")
    lacking = []
    for user in USERS:
        lacking.append(cf(await page(mesh, user)).state != common_pb2.SOURCE_STATE_OK)
        await guard.look()
    assert 2 <= sum(lacking) <= 5
    assert not any(lacking[-30:])
    stored = store.read()
    assert stored.experiment("canary").killed
    last = stored.history[-1]
    assert (last.by, last.did) == (WHO, "stopped")
    assert last.what.startswith("cf@2: ")
    assert "calls failed; 2.0% may" in last.what
