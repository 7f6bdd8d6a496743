"""Experiments on disk: who may change what, the history, and how orchestrators take it over."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recmesh.deployments.experiment_follower import ExperimentFollower
from recmesh.orchestrator.experiments.assignment import assign
from recmesh.orchestrator.experiments.experiment import BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError
from tests.small_world import dataset

NOW = datetime.now(UTC)
PLAN = {"metrics": ["clicks"], "planned_units": 1000}


def experiment(name: str = "test", **fields: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": name,
            "layer": "pages",
            "arms": [{"name": "control", "share": 0.5}, {"name": "tuned", "share": 0.5}],
            "first_bucket": 0,
            "buckets": BUCKETS // 2,
            "starts_at": NOW,
            "ends_at": NOW + timedelta(days=14),
        }
        | fields
    )


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path / "experiments")


def create(store: ExperimentStore, name: str = "test", **fields: Any) -> Experiment:
    made = experiment(name, **fields)
    return store.create(made, days=14, file="name = …", plan=PLAN, by="ada")


def taking_part(store: ExperimentStore, units: int = 400) -> int:
    now = datetime.now(UTC).timestamp()
    book = store.read().book
    return sum(bool(assign(book, f"d{n}", now)) for n in range(units))


def test_an_experiment_goes_from_nobody_to_everybody_to_nobody(store: ExperimentStore) -> None:
    create(store, buckets=BUCKETS)
    assert taking_part(store) == 0
    store.start("test", 0.1, "ada", datetime.now(UTC))
    some = taking_part(store)
    assert 0 < some < 100
    store.ramp("test", 1.0, "grace")
    assert taking_part(store) == 400
    assert store.stop("test", "too many complaints", "grace")
    assert taking_part(store) == 0
    assert not store.stop("test", "again", "grace"), "idempotent"
    history = store.read().history
    assert [(entry.by, entry.did) for entry in history] == [
        ("ada", "created"),
        ("ada", "started"),
        ("grace", "ramped"),
        ("grace", "stopped"),
    ]
    assert history[-1].what == "too many complaints"
    assert list(history) == sorted(history, key=lambda entry: entry.at)


def test_buckets_are_found_and_come_back(store: ExperimentStore) -> None:
    places = [create(store, name, buckets=b).first_bucket for name, b in
              (("a", 5000), ("b", 3000), ("c", 2000))]  # fmt: skip
    assert places == [0, 5000, 8000]
    with pytest.raises(ConfigurationError, match=r"share: 0.0001 of layer pages is not free.*: 0$"):
        create(store, "d", buckets=1)
    assert create(store, "other", layer="other", buckets=BUCKETS).first_bucket == 0
    store.stop("b", "", "ada")
    assert create(store, "d", buckets=2500).first_bucket == 5000
    with pytest.raises(ConfigurationError, match=r"largest part that is: 0\.05"):
        create(store, "e", buckets=501)


def test_one_that_starts_late_keeps_its_buckets_and_its_length(store: ExperimentStore) -> None:
    create(store)
    late = NOW + timedelta(days=100)
    create(store, "rival")
    started = store.start("test", 1.0, "ada", late)
    assert (started.starts_at, started.ends_at) == (late, late + timedelta(days=14))
    planned = NOW + timedelta(days=5)
    other = {"layer": "x", "starts_at": planned, "ends_at": planned + timedelta(days=1)}
    create(store, "planned", **other)
    assert store.start("planned", 1.0, "ada", NOW).starts_at == planned


def test_wrong_states_are_said(store: ExperimentStore) -> None:
    with pytest.raises(NotFoundError, match="no experiment 'test'; there is none"):
        store.start("test", 1.0, "ada", NOW)
    create(store)
    with pytest.raises(ConfigurationError, match="name: there is an experiment test already"):
        create(store)
    with pytest.raises(ConfigurationError, match="run: recmesh experiment start test"):
        store.ramp("test", 0.5, "ada")
    with pytest.raises(ConfigurationError, match=r"ramp: .* less than or equal to 1 \(is 1.5\)"):
        store.start("test", 1.5, "ada", NOW)
    store.start("test", 0.5, "ada", NOW)
    with pytest.raises(ConfigurationError, match="started already; raise its ramp"):
        store.start("test", 0.5, "ada", NOW)
    with pytest.raises(ConfigurationError, match=r"ramp cannot fall from 0\.5 to 0\.2"):
        store.ramp("test", 0.2, "ada")
    store.ramp("test", 0.5, "ada")
    store.stop("test", "", "ada")
    for refused in (
        lambda: store.ramp("test", 1.0, "ada"),
        lambda: store.start("test", 1.0, "ada", NOW),
    ):
        with pytest.raises(ConfigurationError, match=r"stopped.*create one with a new name"):
            refused()
    assert [entry.did for entry in store.read().history] == ["created", "started", "stopped"]


def test_two_that_steer_the_same_pages_do_not_run_at_once(store: ExperimentStore) -> None:
    arms = [{"name": "control", "share": 0.5}, {"name": "tuned", "share": 0.5, "policy": "p"}]
    create(store, arms=arms)
    with pytest.raises(ConfigurationError, match="put them in one layer"):
        create(store, "other", layer="other", arms=arms)
    create(store, "other", arms=arms)


def test_a_plan_cannot_be_changed_afterwards(store: ExperimentStore) -> None:
    create(store)
    assert store.read().record("test").plan == PLAN
    file = store.root / "book.json"
    said = json.loads(file.read_text())
    said["records"]["test"]["plan"]["metrics"] = ["saves"]
    file.write_text(json.dumps(said))
    with pytest.raises(DataError, match="are not those that were fixed when it was created"):
        store.read().record("test")
    with pytest.raises(DataError, match="not those that were fixed"):
        store.start("test", 1.0, "ada", NOW)
    file.write_text("{")
    with pytest.raises(DataError, match=r"book\.json is damaged"):
        store.read()


def _created(root: Path, number: int) -> None:
    create(ExperimentStore(root), f"test-{number}", buckets=100)


def test_creators_at_the_same_time_lose_nothing(store: ExperimentStore) -> None:
    context = multiprocessing.get_context("fork")
    creators = [context.Process(target=_created, args=(store.root, n)) for n in range(8)]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join()
    stored = store.read()
    assert len(stored.book.experiments) == len(stored.history) == 8
    assert sorted(e.first_bucket for e in stored.book.experiments) == list(range(0, 800, 100))


def test_the_holdout_is_noted(store: ExperimentStore) -> None:
    create(store, buckets=BUCKETS)
    store.start("test", 1.0, "ada", NOW)
    store.hold_out(0.2, "ada")
    assert 250 < taking_part(store) < 390
    assert store.read().history[-1].what == "0 to 0.2"


@pytest.fixture
def follower(store: ExperimentStore, tmp_path: Path) -> ExperimentFollower:
    mesh = Mesh(ModelPanel({}), None, Snapshot.of(dataset(tmp_path), Policy.load(), None))
    return ExperimentFollower(store, PolicyStore(tmp_path / "policies"), mesh)


TEXT = DEFAULT_POLICY.read_text()


def served(follower: ExperimentFollower) -> list[str]:
    return [e.name for e in follower.mesh.experiments.book.experiments]


async def test_what_is_started_is_taken_over_and_what_is_stopped_given_up(
    store: ExperimentStore, follower: ExperimentFollower
) -> None:
    version = follower.policies.publish(TEXT.replace('"default"', '"other"'), {})
    arms = [{"name": "control", "share": 0.5}, {"name": "tuned", "share": 0.5, "policy": version}]
    await follower.look()
    create(store, arms=arms)
    await follower.look()
    assert served(follower) == []
    store.start("test", 1.0, "ada", datetime.now(UTC))
    await follower.look()
    assert served(follower) == ["test"]
    making = follower.mesh.experiments.makings[version, "", frozenset()]
    assert making.policy is not None
    assert making.policy.version == version
    taken = follower.mesh.experiments
    await follower.look()
    assert follower.mesh.experiments is taken, "nothing changed"
    store.stop("test", "", "ada")
    await follower.look()
    assert served(follower) == []


async def test_one_arm_that_cannot_be_served_leaves_the_experiment_out(
    store: ExperimentStore, follower: ExperimentFollower
) -> None:
    slow = TEXT.replace("popularity_half_life_days = 7.0", "popularity_half_life_days = 3.0")
    for name, version in (
        ("gone", "default-000000000000"),
        ("popularity", follower.policies.publish(slow, {})),
    ):
        arms = [{"name": "control", "share": 0.5}, {"name": "x", "share": 0.5, "policy": version}]
        create(store, name, arms=arms, buckets=100)
        store.start(name, 1.0, "ada", datetime.now(UTC))
    create(store, "sound", buckets=100)
    store.start("sound", 1.0, "ada", datetime.now(UTC))
    await follower.look()
    assert served(follower) == ["sound"]


async def test_a_damaged_book_leaves_what_was_served(
    store: ExperimentStore, follower: ExperimentFollower
) -> None:
    create(store)
    store.start("test", 1.0, "ada", datetime.now(UTC))
    await follower.look()
    (store.root / "book.json").write_text("nonsense")
    await follower.look()
    assert served(follower) == ["test"]


async def test_an_embedding_version_serves_once_it_can_be_searched_and_no_longer(
    store: ExperimentStore, follower: ExperimentFollower, tmp_path: Path
) -> None:
    registry = EmbeddingRegistry(tmp_path / "vectors")
    record = registry.save(EmbeddingVersion("v", "c", dim=8, count=40), State.VERIFIED)
    arms = [{"name": "control", "share": 0.5}, {"name": "x", "share": 0.5, "embedding": "v"}]
    create(store, arms=arms)
    store.start("test", 1.0, "ada", datetime.now(UTC))
    await follower.look()
    assert served(follower) == [], "there is no vector index"
    ready = False

    async def warm_up(_: EmbeddingVersion) -> bool:
        return ready

    follower.registry, follower.warm_up = registry, warm_up
    await follower.look()
    assert served(follower) == []
    ready = True
    await follower.look()
    assert served(follower) == ["test"]
    assert follower.mesh.experiments.makings["", "v", frozenset()].embedding == record
    registry.remove(record)
    await follower.look()
    assert served(follower) == []
