"""Ingestion: nothing is lost silently, and running it twice changes nothing."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.storage.ingest import ingest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "items.csv").write_bytes(
        b"item_id,content_type,title,topics,published_at,colour\n"
        b'i1,article,"Two\nlines",a|b,2026-01-01,red\n'
        b"i2,article,,,,\n"
        b"i3,article,\xff,,,\n"
        b"i4,article,Fourth,,yesterday,\n"
        b"i5,article\n"
        b"i6,video,Sixth,,2026-01-01T10:00:00.123456+02:00,\n"
    )
    events = [
        {
            "event_id": "e2",
            "user_id": "u",
            "item_id": "i1",
            "event_type": "click",
            "time": "2026-01-02",
        },
        {
            "event_id": "e1",
            "user_id": "u",
            "item_id": "no",
            "event_type": "save",
            "time": "2026-01-01",
        },
        {"event_id": "e3", "user_id": "u", "event_type": "poke", "time": "2026-01-01"},
        {
            "event_id": "e4",
            "user_id": "u",
            "event_type": "dwell",
            "time": "2026-01-02",
            "dwell_s": -1,
        },
        {"event_id": 5, "user_id": "u", "event_type": "dwell", "time": "2026-01-01"},
        {"event_id": "x" * 257, "user_id": "u", "event_type": "dwell", "time": "2026-01-01"},
        {
            "event_id": "e7",
            "user_id": "u",
            "event_type": "dwell",
            "time": "2026-01-02",
            "dwell_s": float("nan"),
        },
    ]
    lines = [json.dumps(event) for event in events]
    (folder / "events-2026.jsonl").write_text("\n".join([*lines, "{oops"]) + "\n")
    (folder / "users.jsonl").write_text('{"user_id": "u"}\n')
    return folder


def test_good_rows_arrive_and_bad_rows_are_quarantined(source: Path, tmp_path: Path) -> None:
    report = ingest(source, tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.items["item_id"].to_pylist() == ["i1", "i6"]
    assert dataset.items["topics"].to_pylist() == [["a", "b"], []]
    assert dataset.items["published_at"][1].as_py().hour == 8
    assert dataset.events["event_id"].to_pylist() == ["e1", "e2"]
    assert dataset.users["consents_personalisation"].to_pylist() == [True]
    assert dataset.users["consents_sponsored"].to_pylist() == [False]
    assert report.events_of_unknown_items == 1
    assert report.events_of_unknown_users == 0
    assert report.warnings == ["items.csv: unknown column colour; ignored"]
    quarantine = (tmp_path / "d/quarantine/items.csv.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in quarantine] == [4, 5, 6, 7]
    assert report.tables["events"].quarantined == 6
    for counts in report.tables.values():
        kept = counts.added + counts.updated + counts.unchanged + counts.superseded
        assert counts.read == kept + counts.quarantined


def test_a_second_run_skips_and_a_change_updates(source: Path, tmp_path: Path) -> None:
    first = ingest(source, tmp_path / "d")
    second = ingest(source, tmp_path / "d")
    assert second.version == first.version
    assert len(second.skipped_files) == 3
    (source / "items.csv").write_text(
        "item_id,content_type,title,topics,published_at\n"
        "i1,article,First,a,2026-01-01\ni1,article,New,a,2026-01-01\n"
        "i6,video,Sixth,,2026-01-01T08:00:00.123Z\ni7,video,Seventh,,\n"
    )
    third = ingest(source, tmp_path / "d")
    counts = third.tables["items"]
    assert (counts.added, counts.updated, counts.unchanged, counts.superseded) == (1, 1, 1, 1)
    assert third.version != first.version
    assert Dataset.open(tmp_path / "d").items["title"].to_pylist() == ["New", "Sixth", "Seventh"]
    assert not (tmp_path / "d/quarantine/items.csv.jsonl").exists()


def test_parquet_gives_the_same_data_set(source: Path, tmp_path: Path) -> None:
    first = ingest(source, tmp_path / "d")
    again = tmp_path / "again"
    again.mkdir()
    for name, file in Dataset.open(tmp_path / "d").files.items():
        (again / f"{name}.parquet").write_bytes(file.read_bytes())
    assert ingest(again, tmp_path / "d2").version == first.version


def test_two_at_once_is_a_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with (tmp_path / "d/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another ingest"):
            ingest(source, tmp_path / "d")
