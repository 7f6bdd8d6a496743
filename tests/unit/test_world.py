from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth
from recmesh.storage.interchange import ITEMS, TABLES

SMALL = WorldConfig(doctors=300, items=300, days=20, sessions_per_day=0.3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate(folder, SMALL)
    return folder


def read(folder: Path, name: str) -> pa.Table:
    return pq.read_table(folder / f"{name}.parquet")


def seen(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of impressions, and whether each was clicked."""
    events = read(folder, "events").to_pylist()
    keys = ("user_id", "item_id", "rank")
    clicks = {tuple(e[k] for k in keys) for e in events if e["event_type"] == "click"}
    shown = [tuple(e[k] for k in keys) for e in events if e["event_type"] == "impression"]
    return np.array([s[2] for s in shown]), np.array([s in clicks for s in shown])


def test_the_same_seed_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    generate(tmp_path, SMALL)
    for name in TABLES:
        file = f"{name}.parquet"
        assert (world / file).read_bytes() == (tmp_path / file).read_bytes(), name


def test_tables_keep_the_format(world: Path) -> None:
    for name, schema in TABLES.items():
        table = read(world, name)
        assert table.schema.equals(schema.columns), name
        assert all(table[column].null_count == 0 for column in schema.required), name
        assert table.group_by(list(schema.key)).aggregate([]).num_rows == table.num_rows, name


def test_clicks_fall_with_position(world: Path) -> None:
    rank, clicked = seen(world)
    assert clicked[rank <= 3].mean() > 1.3 * clicked[rank >= 8].mean()


def test_edges_join_doctors_of_a_kind(world: Path) -> None:
    users, edges = read(world, "users"), read(world, "edges")
    kind = {u["user_id"]: u["specialties"][0] for u in users.to_pylist()}
    same = [kind[e["source_user_id"]] == kind[e["target_user_id"]] for e in edges.to_pylist()]
    assert np.mean(same) > 0.3  # one in 16 by chance


def test_follow_events_are_edges(world: Path) -> None:
    edges = {(e["source_user_id"], e["target_user_id"]) for e in read(world, "edges").to_pylist()}
    events = [e for e in read(world, "events").to_pylist() if e["event_type"] == "follow"]
    assert events
    assert {(e["user_id"], e["item_id"]) for e in events} <= edges


def test_campaigns_name_items_and_keep_budgets(world: Path) -> None:
    items = set(read(world, "items")["item_id"].to_pylist())
    events = read(world, "events").to_pylist()
    for campaign in read(world, "campaigns").to_pylist():
        paid = [e for e in events if e["campaign_id"] == campaign["campaign_id"]]
        assert set(campaign["item_ids"]) <= items
        assert {e["item_id"] for e in paid} <= set(campaign["item_ids"])
        impressions = sum(e["event_type"] == "impression" for e in paid)
        assert impressions <= campaign["budget_impressions"]


def test_the_truth_predicts_clicks(world: Path) -> None:
    truth = Truth.load(world / "truth")
    events = [e for e in read(world, "events").to_pylist() if e["event_type"] == "impression"]
    row = {u: n for n, u in enumerate(read(world, "users")["user_id"].to_pylist())}
    col = {i: n for n, i in enumerate(read(world, "items")["item_id"].to_pylist())}
    probability = truth.click_probability(
        np.array([row[e["user_id"]] for e in events]),
        np.array([col[e["item_id"]] for e in events]),
        np.array([e["rank"] for e in events]),
        np.array([(e["time"] - SMALL.start).total_seconds() / 86400 for e in events]),
    )
    assert probability.min() >= 0
    assert probability.max() <= 1
    _, clicked = seen(world)
    order = probability.argsort().argsort() + 1
    hits = int(clicked.sum())
    auc = (order[clicked].sum() - hits * (hits + 1) / 2) / (hits * (len(order) - hits))
    assert auc > 0.6


def test_a_real_catalogue_keeps_its_items(tmp_path: Path) -> None:
    titles = ["Metformin in diabetes", "Asthma and spirometry", "Nothing known"]
    columns = {"item_id": ["a", "b", "c"], "content_type": ["article"] * 3, "title": titles}
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(pa.table(columns), source / "items.parquet")
    out = tmp_path / "out"
    rows = generate(out, WorldConfig(doctors=50, days=5), source)
    table = read(out, "items")
    assert rows["items"] == 3
    assert table.schema.equals(ITEMS.columns)
    assert table["item_id"].to_pylist() == ["a", "b", "c"]
    assert table["topics"].to_pylist() == [["diabetes"], ["asthma"], []]
    assert table["published_at"].null_count == 0
