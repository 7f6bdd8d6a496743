from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recmesh.models.model import EMPTY, Context, Model, TrainOptions, User
from recmesh.models.network import load, train
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from tests.small_world import NOW_UNIX_S, table


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A path a - b - c - d, and a pair x - y; b read one item, d and y others."""
    when = datetime.fromtimestamp(NOW_UNIX_S, UTC)
    ties = [("a", "b"), ("b", "c"), ("c", "d"), ("x", "y")]
    rows = {
        "edges": [
            {"source_user_id": s, "target_user_id": t, "edge_type": "colleague", "weight": 1.0}
            for s, t in ties
        ],
        "events": [
            {"event_id": u, "user_id": u, "item_id": f"of-{u}", "event_type": "click"}
            | {"time": when}
            for u in "bdy"
        ],
    }
    files = {name: tmp_path / f"{name}.parquet" for name in rows}
    for name, file in files.items():
        pq.write_table(table(name, rows[name]), file)
    trained = train(Dataset("v", files), TrainOptions())
    return load(Artifact("1", trained.card, trained.tensors, trained.strings))


def of(user: str, surface: str, *history: str) -> Context:
    return Context(User(user, history), surface, NOW_UNIX_S)


def test_doctors_nearby_but_not_yet_tied_come_first(model: Model) -> None:
    assert model.retrieve(of("a", "network"), 9).item_ids == ["c", "d"]


def test_nearer_colleagues_count_more(model: Model) -> None:
    found = model.retrieve(of("a", "feed"), 9)
    assert found.item_ids == ["of-b", "of-d"]
    assert model.retrieve(of("a", "feed", "of-b"), 9).item_ids == ["of-d"]
    np.testing.assert_array_equal(model.score(of("a", "feed"), found.item_ids), found.scores)


def test_strangers_have_no_network(model: Model) -> None:
    assert model.retrieve(of("nobody", "network"), 9) is EMPTY
    assert np.isnan(model.score(of("nobody", "feed"), ["of-b"])).all()
    assert np.isnan(model.score(of("a", "feed"), ["unknown"])).all()


def test_without_edges_the_model_is_silent() -> None:
    trained = train(Dataset("v", {}), TrainOptions())
    silent = load(Artifact("1", trained.card, trained.tensors, trained.strings))
    assert silent.retrieve(of("a", "network"), 3) is EMPTY
