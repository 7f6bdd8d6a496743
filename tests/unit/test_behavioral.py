from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from recmesh.models.behavioral import load, train, training
from recmesh.models.behavioral.sequence import LENGTH
from recmesh.models.model import Context, Model, TrainedModel, TrainOptions, User
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.interchange import EVENT_TYPES
from tests.small_world import write_table

NOW = 1_700_000_000
ITEMS = [f"i{n}" for n in range(6)]
OPTIONS = TrainOptions(seed=3, parameters={"dim": 16, "epochs": 60, "patience": 60})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Everyone walks round the items in order, from a start of their own."""
    folder = tmp_path_factory.mktemp("dataset")
    events = [
        {
            "event_id": f"{step}-{user}",
            "user_id": f"u{user}",
            "item_id": ITEMS[(user + step) % len(ITEMS)],
            "event_type": "click",
            "time": datetime.fromtimestamp(NOW + 600 * step + user, UTC),
        }
        for step in range(20)
        for user in range(12)
    ]
    items = [{"item_id": i, "content_type": "article", "title": i} for i in ITEMS]
    rows: dict[str, list[dict[str, object]]] = {"items": items, "events": events}
    return Dataset("v", {name: write_table(folder, name, r) for name, r in rows.items()})


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> TrainedModel:
    return train(dataset, OPTIONS)


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> Model:
    return load(Artifact("1", trained.card, trained.tensors, trained.strings))


def reader(*items: str) -> Context:
    times = [NOW + 600 * n for n in range(len(items))]
    user = User("u", items, [EVENT_TYPES["click"]] * len(items), times)
    return Context(user, "feed", NOW + 600 * len(items))


def test_learns_what_follows(model: Model) -> None:
    assert model.retrieve(reader("i1", "i2", "i3"), 1).item_ids == ["i4"]


def test_training_is_deterministic(dataset: Dataset) -> None:
    short = TrainOptions(seed=3, parameters={"dim": 16, "epochs": 2})
    first, second = train(dataset, short), train(dataset, short)
    assert first.card == second.card
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(tensor, second.tensors[name])


def test_no_event_from_until_on_is_used(dataset: Dataset) -> None:
    with pytest.raises(DataError):
        train(dataset, TrainOptions(until=datetime.fromtimestamp(NOW, UTC)))


def test_retrieval_agrees_with_scores_and_skips_history(model: Model) -> None:
    context = reader("i0", "i1")
    found = model.retrieve(context, 10)
    assert set(found.item_ids) == set(ITEMS) - {"i0", "i1"}
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_array_equal(found.scores, model.score(context, found.item_ids))


def test_score_does_not_depend_on_candidates(model: Model) -> None:
    context = reader("i0", "i1")
    alone = [model.score(context, [item])[0] for item in ITEMS]
    np.testing.assert_array_equal(model.score(context, ITEMS), alone)


def test_unknown_items_and_users_have_no_opinion(model: Model) -> None:
    assert np.isnan(model.score(reader("i0"), ["nowhere", "i1"])).tolist() == [True, False]
    assert np.isnan(model.score(reader(), ITEMS)).all()
    assert model.retrieve(reader("nowhere"), 5).item_ids == []


def test_everything_seen_leaves_nothing(model: Model) -> None:
    assert model.retrieve(reader(*ITEMS), 5).item_ids == []


def events_of(*steps: tuple[int, int]) -> training._Events:
    """One user's (item, kind) steps, an hour apart."""
    items, kinds = (np.array(column, np.int64) for column in zip(*steps, strict=True))
    times = NOW + 3600 * np.arange(len(steps), dtype=np.int64)
    return training._Events(np.zeros(len(steps), np.int64), items, kinds, times)


def test_every_event_of_a_long_history_is_a_target_once() -> None:
    steps = [(1 + n, EVENT_TYPES["click"]) for n in range(3 * LENGTH + 7)]
    batch = training._sequences(events_of(*steps), 0, NOW * 2)
    targets = batch.targets[batch.targets > 0]
    assert sorted(targets.tolist()) == list(range(2, len(steps) + 1))


def test_what_was_read_before_is_no_target() -> None:
    kind = EVENT_TYPES["click"]
    batch = training._sequences(events_of((1, kind), (2, kind), (1, kind), (3, kind)), 0, NOW * 2)
    assert batch.targets[0, :3].tolist() == [2, 0, 3]


def test_a_click_and_its_save_are_one_step(model: Model) -> None:
    click, save = EVENT_TYPES["click"], EVENT_TYPES["save"]
    twice = User("u", ["i1", "i2", "i2"], [click, click, save], [NOW, NOW + 600, NOW + 660])
    once = User("u", ["i1", "i2"], [click, save], [NOW, NOW + 660])
    scores = [model.score(Context(u, "feed", NOW + 1200), ITEMS) for u in (twice, once)]
    np.testing.assert_array_equal(*scores)
