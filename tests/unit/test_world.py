from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from recmesh.cli.world import app
from recmesh.offline.datasets.registry import convert
from recmesh.offline.world.columns import lists_of
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.lexicon import SPECIALTIES, TOPICS
from recmesh.offline.world.real_catalogue import real
from recmesh.offline.world.truth import Truth
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.ingest import ingest
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


def test_campaigns_are_booked_from_the_end_of_the_simulated_days(world: Path) -> None:
    campaigns = read(world, "campaigns").to_pylist()
    end = SMALL.start + timedelta(days=SMALL.days)
    booked = [one for one in campaigns if one["starts_at"] == end]
    assert len(campaigns) == SMALL.campaigns + len(booked)
    assert len(booked) == SMALL.campaigns / 2
    assert all(one["ends_at"] >= end + timedelta(days=14) for one in booked)
    assert len({one["campaign_id"] for one in campaigns}) == len(campaigns)
    shown = {event["campaign_id"] for event in read(world, "events").to_pylist()}
    assert not shown & {one["campaign_id"] for one in booked}


def test_the_command_ends_the_world_at_the_midnight_told(tmp_path: Path) -> None:
    told = ["generate", "--out", str(tmp_path), "--doctors", "20", "--items", "30", "--days", "2"]
    assert CliRunner().invoke(app, [*told, "--ends", "2026-04-01"]).exit_code == 0
    times = [event["time"] for event in read(tmp_path, "events").to_pylist()]
    assert min(times) >= datetime(2026, 3, 30, tzinfo=UTC)
    assert max(times) < datetime(2026, 4, 1, 1, tzinfo=UTC)


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


def catalogue(folder: Path, **columns: list[object]) -> Path:
    folder.mkdir()
    titles = columns["title"]
    given = {
        "item_id": [f"r{n}" for n in range(len(titles))],
        "content_type": ["article"] * len(titles),
    }
    pq.write_table(pa.table(given | columns), folder / "items.parquet")
    return folder


def test_real_topics_follow_from_texts(tmp_path: Path) -> None:
    source = catalogue(
        tmp_path / "source",
        title=[
            "Metformin in diabetes: sugar and feet",
            "Caring for feet when sugar is high",
            "Asthma and spirometry: breathing at night",
            "What is Zzz syndrome?",
            "How is Zzz syndrome treated?",
            "Qqq",
        ],
        topics=[[], [], [], ["Zzz syndrome"], ["Zzz syndrome"], []],
        abstract=["", "", "", "It disturbs breathing at night.", "", ""],
    )
    real_items = real(source, SMALL, np.random.default_rng(0))
    names = [TOPICS[topic].name for topic in real_items.topic]
    assert names[:5] == ["diabetes", "diabetes", "asthma", "asthma", "asthma"]
    assert real_items.found == {
        "topics named in the text": 2,
        "topics of the most similar texts": 3,
        "topics drawn at random": 1,
    }


def test_alike_texts_have_alike_truths(tmp_path: Path) -> None:
    kinds = [f"uric{k} crystal{k} joint{k} flare{k}" for k in range(8)]
    texts = [f"{kinds[n // 6]} patient{n % 6}" for n in range(48)]
    source = catalogue(tmp_path / "source", title=texts)
    space = real(source, SMALL, np.random.default_rng(0)).text_direction
    assert space is not None
    space = space / np.linalg.norm(space, axis=1, keepdims=True)
    likeness = space @ space.T
    same = np.kron(np.eye(8), np.ones((6, 6))) > 0
    assert likeness[same].mean() > likeness[~same].mean() + 0.5


def test_a_sample_of_a_catalogue_is_even_and_seeded(tmp_path: Path) -> None:
    source = catalogue(tmp_path / "source", title=[f"Gout {n}" for n in range(400)])
    drawn = [
        real(source, SMALL, np.random.default_rng(seed), 100).table["item_id"].to_pylist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 100
    assert 30 < sum(int(item[1:]) < 200 for item in drawn[0]) < 70
    assert real(source, SMALL, np.random.default_rng(0), 9999).table.num_rows == 400


def test_a_bad_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no items"):
        real(tmp_path, SMALL, np.random.default_rng(0))
    (tmp_path / "items.csv").write_text("item_id,content_type,title\na,article,A\nb,,B\n")
    with pytest.raises(DataError, match=r"items\.csv line 3 .*content_type"):
        real(tmp_path, SMALL, np.random.default_rng(0))
    (tmp_path / "items.csv").write_text("item_id,title\n")
    with pytest.raises(DataError, match=r"items\.csv: no column content_type"):
        real(tmp_path, SMALL, np.random.default_rng(0))


def test_medquad_gives_every_item_a_topic_from_its_text(tmp_path: Path) -> None:
    archive = Path(__file__).parents[3] / "shared" / "data" / "medquad.tar.gz"
    if not archive.exists():
        pytest.skip(f"medquad is not in {archive.parent}")
    convert("medquad", archive, tmp_path / "medquad")
    rows = generate(
        tmp_path / "w", WorldConfig(doctors=200, days=5), tmp_path / "medquad", sample=3000
    )
    assert rows["items"] == 3000
    assert rows["topics drawn at random"] == 0
    assert rows["topics named in the text"] > 1000
    report = ingest(tmp_path / "w", tmp_path / "dataset")
    assert not any(counts.quarantined for counts in report.tables.values())
    assert report.events_of_unknown_items == report.events_of_unknown_users == 0


@pytest.mark.parametrize("topic", range(len(TOPICS)))
def test_generated_texts_name_their_topic(world: Path, topic: int) -> None:
    items = [i for i in read(world, "items").to_pylist() if i["topics"] == [TOPICS[topic].name]]
    for item in items:
        assert TOPICS[topic].name in item["title"]
        assert any(drug in item["abstract"] for drug in TOPICS[topic].drugs)
        assert item["specialties"] == [SPECIALTIES[TOPICS[topic].specialty]]


def test_lists_hold_the_names_that_are_set() -> None:
    members = np.random.default_rng(0).random((50, 4)) < 0.4
    lists = lists_of(list("abcd"), members).to_pylist()
    assert lists == [[c for c, set_ in zip("abcd", row, strict=True) if set_] for row in members]
