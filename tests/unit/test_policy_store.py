from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.deployments.policy_follower import PolicyFollower
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError, RecMeshError
from tests.small_world import dataset

TEXT = DEFAULT_POLICY.read_text()
CARD = {"surface": "feed"}


def named(name: str) -> str:
    return TEXT.replace('name = "default"', f'name = "{name}"')


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "policies")


def test_what_was_published_is_there_and_serves_nobody(store: PolicyStore) -> None:
    version = store.publish(named("one"), CARD)
    assert version == store.publish(named("one"), CARD)
    assert store.versions() == [version]
    assert store.load(version).version == version
    assert store.card(version) == CARD
    assert store.live() == ""
    assert store.resolve("", DEFAULT_POLICY).name == "default"


def test_promotion_and_the_way_back(store: PolicyStore) -> None:
    one, two = (store.publish(named(name), CARD) for name in ("one", "two"))
    assert store.make_live(one)
    assert not store.make_live(one)
    assert store.make_live(two)
    assert store.resolve("", DEFAULT_POLICY).version == two
    assert store.rollback() == one
    with pytest.raises(ConfigurationError, match="nothing was promoted"):
        store.rollback()
    assert store.live() == one


def test_the_first_promotion_is_taken_back_to_the_configured_file(store: PolicyStore) -> None:
    store.make_live(store.publish(named("one"), CARD))
    assert store.rollback() == ""
    assert store.live() == ""


def test_what_cannot_work_is_not_published_and_not_promoted(store: PolicyStore) -> None:
    with pytest.raises(ConfigurationError, match="unknown objective fame"):
        store.publish(TEXT.replace("novelty = 0.05", "fame = 0.05"), CARD)
    assert store.versions() == []
    for version in ("nothing", "../policies", ""):
        with pytest.raises(NotFoundError):
            store.make_live(version)


def test_a_damaged_record_is_said(store: PolicyStore) -> None:
    store.root.mkdir()
    (store.root / "live.json").write_text("{")
    with pytest.raises(DataError, match=r"live\.json"):
        store.live()


@pytest.fixture
def follower(store: PolicyStore, tmp_path: Path) -> PolicyFollower:
    snapshot = Snapshot.of(dataset(tmp_path), Policy.load(), None)
    return PolicyFollower(store, Mesh(ModelPanel({}), None, snapshot), DEFAULT_POLICY)


async def test_the_promoted_policy_is_taken_over_and_given_back(
    store: PolicyStore, follower: PolicyFollower
) -> None:
    await follower.look()
    assert follower.mesh.snapshot.policy.name == "default"
    store.make_live(store.publish(named("one"), CARD))
    taken = follower.mesh.snapshot
    await follower.look()
    assert follower.mesh.snapshot.policy.name == "one"
    assert taken.policy.name == "default", "a request under way keeps its own"
    store.rollback()
    await follower.look()
    assert follower.mesh.snapshot.policy.name == "default"


async def test_a_policy_that_counts_popularity_otherwise_waits_for_a_redeployment(
    store: PolicyStore, follower: PolicyFollower
) -> None:
    other = named("one").replace(
        "popularity_half_life_days = 7.0", "popularity_half_life_days = 3.0"
    )
    store.make_live(store.publish(other, CARD))
    with pytest.raises(RecMeshError, match="recmesh up"):
        await follower.look()
    assert follower.mesh.snapshot.policy.name == "default"
    await follower.look()  # said once


async def test_a_live_policy_that_was_damaged_leaves_the_last_one(
    store: PolicyStore, follower: PolicyFollower
) -> None:
    version = store.publish(named("one"), CARD)
    store.make_live(version)
    (store.root / version / "policy.toml").write_text("nonsense")
    with pytest.raises(ConfigurationError):
        await follower.look()
    assert follower.mesh.snapshot.policy.name == "default"
