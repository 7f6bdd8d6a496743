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
from tests.small_world import NOW_UNIX_S, table, write_table


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


def test_the_half_life_that_ranks_later_reading_best_is_chosen(tmp_path: Path) -> None:
    """b read the old item at first and the new one lately; a follows b to one of them."""
    day, friends = 86_400, [f"a{n}" for n in range(12)]

    def read(user: str, item: str, days: float) -> dict[str, object]:
        when = datetime.fromtimestamp(NOW_UNIX_S + int(days * day), UTC)
        event = {"event_id": f"{user}-{item}-{days}", "user_id": user, "item_id": item}
        return event | {"event_type": "click", "time": when}

    ties = [{"source_user_id": f, "target_user_id": "b", "edge_type": "follow"} for f in friends]
    ties += [{"source_user_id": f, "target_user_id": "c", "edge_type": "follow"} for f in friends]
    start = [read(reader, "old", 0.0) for reader in ("b", "c")]
    filler = [read(f"s{n}", f"x{n}", 390 + n / 100) for n in range(40)]
    for wanted, expected in (("new", 30.0), ("old", 0.0)):
        late = [read("b", "new", 400.0)] + [read(f, wanted, 401.0) for f in friends]
        rows = {"edges": ties, "events": [*start, *filler, *late]}
        files = {name: write_table(tmp_path, name, rows[name]) for name in rows}
        card = train(Dataset("v", files), TrainOptions()).card
        assert card.parameters["half_life_days"] == expected, card.parameters
    given = train(Dataset("v", files), TrainOptions(parameters={"half_life_days": 7.0})).card
    assert given.parameters["half_life_days"] == 7.0
