"""Converters give what ingestion accepts without a bad row."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.offline.datasets.registry import convert
from recmesh.storage.dataset import Dataset
from recmesh.storage.ingest import ingest

REAL = Path(__file__).parents[3] / "shared" / "data"


def _ingested(name: str, source: Path, scratch: Path) -> Dataset:
    convert(name, source, scratch / "out")
    report = ingest(scratch / "out", scratch / "dataset")
    assert not any(counts.quarantined for counts in report.tables.values())
    return Dataset.open(scratch / "dataset")


def test_movielens_100k(tmp_path: Path) -> None:
    (tmp_path / "u.genre").write_text("Action|0\nDrama|1\n")
    (tmp_path / "u.item").write_text("1|Amélie (2001)|||url|0|1\n", "latin-1")
    (tmp_path / "u.user").write_text("7|30|F|doctor|12345\n")
    (tmp_path / "u.data").write_text("7\t1\t4\t881250949\n")
    dataset = _ingested("movielens-100k", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["Amélie (2001)"]
    assert dataset.items["topics"].to_pylist() == [["Drama"]]
    assert dataset.events["rating"].to_pylist() == [4.0]


def test_movielens_100k_in_recboles_layout(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.item").write_text(
        "item_id\ttitle\tyear\tclass\n1\tHeat\t1995\tCrime Drama\n"
    )
    (tmp_path / "ml-100k.user").write_text("user_id\tage\tsex\tjob\tzip\n7\t30\tF\tdoctor\t1\n")
    (tmp_path / "ml-100k.inter").write_text("user_id\titem_id\trating\ttime\n7\t1\t4\t881250949\n")
    dataset = _ingested("movielens-100k", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["Heat (1995)"]
    assert dataset.items["topics"].to_pylist() == [["Crime", "Drama"]]
    assert dataset.users["interests"].to_pylist() == ["doctor, age 30"]
    assert dataset.events["rating"].to_pylist() == [4.0]


def test_movielens_latest_small(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n1,"A, b",Action|Drama\n')
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.5,881250949\n")
    dataset = _ingested("movielens-latest-small", tmp_path, tmp_path)
    assert dataset.items["topics"].to_pylist() == [["Action", "Drama"]]


@pytest.mark.parametrize(
    ("name", "path", "items"),
    [("lastfm-2k", "lastfm-2k", 17_632), ("medquad", "medquad.tar.gz", 0)],
)
def test_real_data(name: str, path: str, items: int, tmp_path: Path) -> None:
    if not (REAL / path).exists():
        pytest.skip(f"{name} is not in {REAL}")
    dataset = _ingested(name, REAL / path, tmp_path)
    assert dataset.items.num_rows >= (items or 10_000)
