from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from recmesh.models.cf import ease, load, train, training
from recmesh.models.interactions import Interactions
from recmesh.models.model import Context, Model, TrainOptions, User
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from tests.small_world import NOW_UNIX_S, table


def two_tastes(folder: Path) -> Dataset:
    """Even doctors read a0…a5, odd ones b0…b5, each but one of them, in turn."""
    items = [f"{taste}{i}" for taste in "ab" for i in range(6)]
    events = [
        {
            "event_id": f"{user}-{item}",
            "user_id": f"u{user}",
            "item_id": item,
            "event_type": "click",
            "time": datetime.fromtimestamp(NOW_UNIX_S + 60 * user + order, UTC),
        }
        for user in range(40)
        for order, item in enumerate(items)
        if item[0] == "ab"[user % 2] and int(item[1]) != user % 6
    ]
    files = {"items": folder / "items.parquet", "events": folder / "events.parquet"}
    pq.write_table(
        table("items", [{"item_id": i, "title": i, "content_type": "case"} for i in items]),
        files["items"],
    )
    pq.write_table(table("events", events), files["events"])
    return Dataset("tastes", files)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    trained = train(two_tastes(tmp_path), TrainOptions())
    store = ArtifactStore(tmp_path / "artifacts")
    store.publish(trained.card, trained.tensors, trained.strings)
    return load(store.load("cf"))


def reader(*items: str, kind: int = 2) -> Context:
    user = User("u", items, [kind] * len(items), [NOW_UNIX_S] * len(items))
    return Context(user, "feed", NOW_UNIX_S)


def test_readers_of_one_taste_are_given_more_of_it(model: Model) -> None:
    found = model.retrieve(reader("a1", "a2"), 4)
    assert set(found.item_ids) == {"a0", "a3", "a4", "a5"}
    assert (np.diff(found.scores) <= 0).all()


def test_retrieval_and_scoring_agree_and_items_are_scored_alone(model: Model) -> None:
    context = reader("b0", "b3")
    found = model.retrieve(context, 10)
    np.testing.assert_array_equal(model.score(context, found.item_ids), found.scores)
    for item, score in zip(found.item_ids, found.scores, strict=True):
        assert model.score(context, [item])[0] == score


def test_it_has_no_opinion_on_what_it_does_not_know(model: Model) -> None:
    assert np.isnan(model.score(reader(), ["a1"])).all()
    assert np.isnan(model.score(reader("unheard-of"), ["a1"])).all()
    assert np.isnan(model.score(reader("a1", kind=6), ["a2"])).all(), "dismissed is not liked"
    assert np.isnan(model.score(reader("a1"), ["unheard-of"])).all()
    assert model.retrieve(reader(), 5).item_ids == []


def test_ease_is_the_closed_form_of_its_constrained_problem() -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((30, 6)) < 0.4).astype(np.float32)
    fitted = ease.fit_ease(sparse.csr_matrix(x), 3.0)
    expected = np.zeros((6, 6))
    for item in range(6):
        # Ridge regression of one item on all the others, solved on its own.
        others = [i for i in range(6) if i != item]
        a = x[:, others]
        expected[others, item] = np.linalg.solve(a.T @ a + 3.0 * np.eye(5), a.T @ x[:, item])
    np.testing.assert_allclose(fitted, expected / np.abs(expected).max(), atol=1e-4)


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="positive events"):
        train(two_tastes(tmp_path), TrainOptions(until=datetime(2000, 1, 1, tzinfo=UTC)))


def test_a_large_catalogue_is_left_to_als() -> None:
    settings = training.DEFAULTS | {"largest_ease": 5}
    tried: list[str] = []

    def quality(candidate: dict[str, Any]) -> float:
        tried.append(candidate["algorithm"])
        return -candidate["regularisation"] - candidate["half_life_days"]

    best, measured, number = training._choose(settings, 6, quality)
    assert set(tried) == {"als"}
    assert number == len(tried)
    assert (best["regularisation"], best["half_life_days"]) == (0.05, 0.0)
    assert measured == -0.05
    training._choose(settings, 5, quality)
    assert "ease" in tried
    given = {"half_life_days": 9.0, "regularisation": 7.0, "algorithm": "ease"}
    assert training._choose(settings | given, 6, quality)[0].items() >= given.items()


def test_settings_are_judged_on_what_a_request_carries() -> None:
    users = np.array([0] * 200 + [1] * 3 + [0], np.int64)
    n = len(users)
    zeros = np.zeros(n, np.int64)
    events = Interactions(["a", "b"], ["i"], users, zeros, zeros + 2, np.arange(n))
    carried = training._as_served(events)
    assert carried[users == 0].tolist() == [False] * 73 + [True] * 128
    assert carried[users == 1].all()
