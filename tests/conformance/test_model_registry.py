"""One suite for the models' registry, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmesh.storage.artifacts import ArtifactStore, ModelCard
from recmesh.storage.database import Database
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.model_registry import ModelRegistry
from recmesh.storage.model_stage import ALLOWED, ALONE, Stage
from recmesh.storage.model_tables import MODEL_CHANGES, MODEL_VERSIONS
from recmesh.storage.model_version import Ownership

TEAM = Ownership("team a", "#team-a", "what it does")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def registry(database: Database) -> ModelRegistry:
    ticks = itertools.count(1)
    return ModelRegistry(database, lambda: next(ticks))


def publish(store: ArtifactStore, model: str = "cf", *, seed: int, live: bool = False) -> str:
    card = ModelCard(model, "by card", "summary of the card", "data", "", seed)
    return store.publish(card, {}, {"item_ids": ["i1"]}, live=live)


def stages(registry: ModelRegistry, model: str = "cf") -> dict[str, Stage]:
    return {one.version: one.stage for one in registry.versions(model)}


def test_what_was_trained_is_registered_with_its_owner(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    first, second = publish(store, seed=1, live=True), publish(store, seed=2)
    other = publish(store, "other", seed=1)
    registry.reconcile(store, {"cf": TEAM})
    assert stages(registry) == {first: Stage.LIVE, second: Stage.CANDIDATE}
    live = registry.in_stage("cf", Stage.LIVE)
    assert live is not None
    assert (live.owner, live.contact, live.card["seed"]) == ("team a", "#team-a", 1)
    assert registry.get("other", other[:4]).owner == "by card"
    before = registry.history("cf")
    assert {change.did for change in before} == {"reconciled"}
    registry.reconcile(store, {"cf": TEAM})
    assert registry.history("cf") == before


def test_the_registry_follows_what_goes_live_and_back(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    first = publish(store, seed=1, live=True)
    registry.reconcile(store, {})
    second = publish(store, seed=2, live=True)
    registry.reconcile(store, {})
    assert stages(registry) == {first: Stage.RETIRED, second: Stage.LIVE}
    store.rollback("cf")
    registry.reconcile(store, {})
    assert stages(registry) == {first: Stage.LIVE, second: Stage.RETIRED}


def test_a_registry_that_begins_late_knows_what_was_live_before(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    first, second = publish(store, seed=1, live=True), publish(store, seed=2, live=True)
    registry.reconcile(store, {})
    assert stages(registry) == {first: Stage.RETIRED, second: Stage.LIVE}


def test_a_version_whose_artifact_is_gone_is_retired(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    publish(store, seed=1, live=True)
    gone = publish(store, seed=2)
    registry.reconcile(store, {})
    registry.move("cf", gone, Stage.SHADOW, by="a", did="shadowed")
    store.remove("cf", gone)
    registry.reconcile(store, {})
    assert stages(registry)[gone] is Stage.RETIRED
    last = registry.history("cf")[-1]
    assert (last.from_stage, last.to_stage, last.did) == ("shadow", "retired", "reconciled")


def test_a_damaged_card_hides_its_own_version_alone(
    registry: ModelRegistry, store: ArtifactStore, tmp_path: Path
) -> None:
    good, bad = publish(store, seed=1, live=True), publish(store, seed=2)
    (tmp_path / "artifacts" / "cf" / bad / "card.json").write_text("{")
    registry.reconcile(store, {})
    assert stages(registry) == {good: Stage.LIVE}


def test_a_promotion_retires_the_one_before_and_says_who(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    first, second = publish(store, seed=1, live=True), publish(store, seed=2)
    registry.reconcile(store, {})
    registry.move("cf", second, Stage.LIVE, by="ann", did="deployed", detail="it is better")
    registry.move("cf", second, Stage.LIVE, by="ann", did="deployed")
    assert stages(registry) == {first: Stage.RETIRED, second: Stage.LIVE}
    retired, live = registry.history("cf")[-2:]
    assert (retired.version, retired.to_stage, retired.by) == (first, "retired", "ann")
    assert (live.version, live.from_stage, live.to_stage) == (second, "candidate", "live")
    assert (live.did, live.detail) == ("deployed", "it is better")
    assert live.at > 0


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY])
def test_a_model_has_one_shadow_and_one_canary(
    registry: ModelRegistry, store: ArtifactStore, stage: Stage
) -> None:
    one, two = publish(store, seed=1), publish(store, seed=2)
    registry.reconcile(store, {})
    registry.move("cf", one, stage, by="a", did="tried")
    with pytest.raises(ConfigurationError, match=f"{one} is the {stage} already"):
        registry.move("cf", two, stage, by="a", did="tried")
    registry.move("cf", one, Stage.RETIRED, by="a", did="ended")
    registry.move("cf", two, stage, by="a", did="tried")


def test_what_is_not_allowed_is_refused_with_the_rule(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    live, other = publish(store, seed=1, live=True), publish(store, seed=2)
    registry.reconcile(store, {})
    with pytest.raises(ConfigurationError, match="retired when another one goes live"):
        registry.move("cf", live, Stage.RETIRED, by="a", did="ended")
    registry.move("cf", other, Stage.RETIRED, by="a", did="ended")
    with pytest.raises(ConfigurationError, match="from retired a version goes to canary, live, sh"):
        registry.move("cf", other, Stage.CANDIDATE, by="a", did="tried")
    with pytest.raises(NotFoundError, match="no version 'nothing'"):
        registry.move("cf", "nothing", Stage.LIVE, by="a", did="tried")


def test_a_beginning_that_says_nothing_is_refused(
    registry: ModelRegistry, store: ArtifactStore
) -> None:
    version = publish(store, seed=1)
    registry.reconcile(store, {})
    assert registry.get("cf", version[:6]).version == version
    with pytest.raises(NotFoundError, match=f"it has {version}"):
        registry.get("cf", "")
    with pytest.raises(NotFoundError, match="it has none"):
        registry.get("dreams", "1")


def test_what_changes_no_stage_is_kept_too(registry: ModelRegistry) -> None:
    registry.note("cf", "", by="ann", did="scaled", detail="1 to 3 replicas")
    (change,) = registry.history("cf")
    assert (change.by, change.did, change.from_stage, change.to_stage) == ("ann", "scaled", "", "")


def test_the_database_itself_refuses_two_live_versions(
    database: Database, registry: ModelRegistry, store: ArtifactStore
) -> None:
    publish(store, seed=1, live=True)
    publish(store, seed=2)
    registry.reconcile(store, {})
    with pytest.raises(Exception, match="the database failed"), database.writing() as connection:
        connection.execute(sa.update(MODEL_VERSIONS).values(stage="live"))


def test_owners_at_the_same_moment_all_succeed(
    database_uri: str, tmp_path: Path, store: ArtifactStore
) -> None:
    models = [f"model-{number}" for number in range(6)]
    for model in models:
        publish(store, model, seed=1, live=True)
    failed: list[Exception] = []
    together = threading.Barrier(len(models))

    def work(model: str) -> None:
        together.wait()
        try:
            for number in range(3):
                registry = ModelRegistry.open(database_uri, tmp_path / "models.db")
                registry.reconcile(store, {})
                registry.note(model, "", by="owner", did="scaled", detail=str(number))
                registry.close()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    registry = ModelRegistry.open(database_uri, tmp_path / "models.db")
    try:
        for model in models:
            assert [c.did for c in registry.history(model)].count("reconciled") == 2
            scaled = [c.detail for c in registry.history(model) if c.did == "scaled"]
            assert scaled == ["0", "1", "2"]
    finally:
        registry.close()


moves = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Stage)), max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=moves)
def test_whatever_is_tried_the_rules_hold(
    database: Database, store: ArtifactStore, moves: list[tuple[int, Stage]]
) -> None:
    registry = ModelRegistry(database)
    with database.writing() as connection:
        connection.execute(sa.delete(MODEL_VERSIONS))
        connection.execute(sa.delete(MODEL_CHANGES))
    versions = sorted(publish(store, seed=number, live=number == 0) for number in range(3))
    registry.reconcile(store, {})
    for number, to in moves:
        before = stages(registry)
        version = versions[number]
        try:
            registry.move("cf", version, to, by="a", did="tried")
        except ConfigurationError:
            assert stages(registry) == before
            assert to not in ALLOWED[before[version]] or to in before.values()
            continue
        after = stages(registry)
        assert after[version] is to
        for stage in ALONE:
            assert list(after.values()).count(stage) <= 1
        assert list(after.values()).count(Stage.LIVE) == 1
    # The history alone tells where every version is.
    told = {c.version: c.to_stage for c in registry.history("cf") if c.to_stage}
    assert told == {version: str(stage) for version, stage in stages(registry).items()}
