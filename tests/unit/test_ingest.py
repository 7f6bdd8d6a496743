"""Ingestion: nothing is lost silently, and running it twice changes nothing."""

from __future__ import annotations

import csv
import fcntl
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.storage import source_file
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.storage.ingest import ingest
from recmesh.storage.interchange import TABLES, TableSchema
from recmesh.storage.row_validation import check_rows
from recmesh.storage.source_file import read_chunks


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
        with pytest.raises(UnavailableError, match="another process"):
            ingest(source, tmp_path / "d")


def test_a_damaged_file_does_not_stop_the_others(source: Path, tmp_path: Path) -> None:
    table = pa.table({"user_id": [f"u{n}" for n in range(1000)]})
    pq.write_table(table, source / "users-2.parquet")
    whole = (source / "users-2.parquet").read_bytes()
    (source / "users-2.parquet").write_bytes(whole[: len(whole) // 2])
    (source / "users-3.csv").write_text("user_id,country\nu3,DE\n", "utf-16")
    (source / "users-4.csv").write_bytes(b"")
    (source / "users-5.csv").write_text("user_id,user_id\na,b\n")
    pq.write_table(pa.table({"user_id": ["u7"], "country": ["DE"]}), source / "users-6.parquet")
    report = ingest(source, tmp_path / "d")
    assert sorted(report.damaged_files) == [
        "users-2.parquet",
        "users-3.csv",
        "users-4.csv",
        "users-5.csv",
    ]
    assert "no column user_id" in report.damaged_files["users-4.csv"]
    assert Dataset.open(tmp_path / "d").users["user_id"].to_pylist() == ["u7", "u"]
    [line] = (tmp_path / "d/quarantine/users-2.parquet.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == report.damaged_files["users-2.parquet"]
    (source / "users-2.parquet").write_bytes(whole)
    again = ingest(source, tmp_path / "d")
    assert "users-2.parquet" not in again.damaged_files
    assert "users-3.csv" in again.damaged_files  # said until it is mended
    assert Dataset.open(tmp_path / "d").users.num_rows == 1001
    assert not (tmp_path / "d/quarantine/users-2.parquet.jsonl").exists()


def test_a_page_damaged_in_the_middle_takes_no_rows(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    file = source / "users.parquet"
    names = np.random.default_rng(0).integers(0, 1 << 60, 50_000).astype(str)
    pq.write_table(pa.table({"user_id": names}), file, row_group_size=10_000)
    content = bytearray(file.read_bytes())
    at = len(content) * 3 // 4
    content[at : at + 2000] = b"\xff" * 2000
    file.write_bytes(content)
    (source / "items.csv").write_text("item_id,content_type,title\ni,article,T\n")
    report = ingest(source, tmp_path / "d")
    assert list(report.damaged_files) == ["users.parquet"]
    assert "users" not in report.tables
    assert Dataset.open(tmp_path / "d").items.num_rows == 1


def test_only_documented_names_are_read(source: Path, tmp_path: Path) -> None:
    for name in ("items_old.csv", "itemsbackup.jsonl", "events.csv.bak", "Users.csv"):
        (source / name).write_text("nothing")
    for name in ("queries.jsonl", "qrels.tsv", "citations.tsv", ".items.csv.swp"):
        (source / name).write_text("nothing")
    report = ingest(source, tmp_path / "d")
    ignored = [w for w in report.warnings if "names no table" in w]
    assert [w.partition(":")[0] for w in ignored] == [
        "Users.csv",
        "events.csv.bak",
        "items_old.csv",
        "itemsbackup.jsonl",
    ]
    assert report.damaged_files == {}


def test_an_interrupt_leaves_the_version_before(source: Path, tmp_path: Path) -> None:
    before = ingest(source, tmp_path / "d")
    files = {f.name: f.read_bytes() for f in (tmp_path / "d").rglob("*") if f.is_file()}
    (source / "items.csv").write_text("item_id,content_type,title\nbad,,\nnew,article,T\n")
    (source / "users.jsonl").write_text('{"user_id": "v"}\n')

    def stop(done: int, total: int, name: str) -> None:
        if name == "users.jsonl":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "d", stop)
    assert files == {f.name: f.read_bytes() for f in (tmp_path / "d").rglob("*") if f.is_file()}
    assert Dataset.open(tmp_path / "d").version == before.version
    assert ingest(source, tmp_path / "d").tables["users"].added == 1


def test_an_interrupt_while_writing_leaves_no_rubbish(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(table: pa.Table, file: Path, **options: str) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("recmesh.storage.ingest.pq.write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "d")
    assert [f.name for f in (tmp_path / "d").iterdir()] == [".lock"]


def test_follows_of_users_are_known(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "users.csv").write_text("user_id\nu\nv\n")
    (source / "events.csv").write_text(
        "event_id,user_id,item_id,event_type,time\n1,u,v,follow,2026-01-01\n2,u,w,follow,2026-01-01\n"
    )
    assert ingest(source, tmp_path / "d").events_of_unknown_items == 1


CELL = st.one_of(
    st.sampled_from(["", "1", "0.5", "true", "2026-01-01", "a|b", 'say "x"', "two\nlines", "a,b"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)


CAMPAIGN = {
    "campaign_id": "c1",
    "sponsor": "s",
    "starts_at": "2026-01-01",
    "ends_at": "2026-02-01",
    "budget_impressions": 1000,
    "disclosure": "Advertisement",
    "countries": ["DE", "GB"],
    "languages": ["de"],
    "value": 0.5,
}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"ends_at": "2026-01-01"}, "ends_at: not after starts_at"),
        ({"budget_impressions": 0}, "budget_impressions: must be above 0"),
        ({"value": 1.01}, "value: outside [0, 1]"),
        ({"value": -0.01}, "value: outside [0, 1]"),
        ({"countries": ["DE", "UK", "XX"]}, "countries: 'UK' is not an ISO 3166-1 alpha-2 code"),
        ({"countries": ["de"]}, "countries: 'de' is not an ISO 3166-1 alpha-2 code"),
        ({"countries": [None]}, "countries: None is not an ISO 3166-1 alpha-2 code"),
        ({"languages": ["de", "xx"]}, "languages: 'xx' is not an ISO 639-1 code"),
        ({"frequency_cap_per_day": -1}, "frequency_cap_per_day: negative"),
        ({"disclosure": ""}, "disclosure: required but empty"),
    ],
)
def test_a_campaign_that_cannot_be_is_quarantined(
    tmp_path: Path, wrong: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    good = [CAMPAIGN, CAMPAIGN | {"campaign_id": "c3", "countries": [], "languages": []}]
    rows = [good[0], CAMPAIGN | {"campaign_id": "c2"} | wrong, good[1]]
    (folder / "campaigns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(folder, tmp_path / "d")
    (line,) = (tmp_path / "d/quarantine/campaigns.jsonl.jsonl").read_text().splitlines()
    assert (json.loads(line)["line"], json.loads(line)["reason"]) == (2, reason)
    assert Dataset.open(tmp_path / "d").campaigns["campaign_id"].to_pylist() == ["c1", "c3"]


def _outcome(file: Path, schema: TableSchema) -> tuple[list[dict[str, Any]], list[Any]]:
    """Good rows, and line, reason and row of bad ones."""
    good: list[dict[str, Any]] = []
    bad: list[Any] = []
    for chunk in read_chunks(file, schema):
        count = len(chunk.lines)
        table, reasons = check_rows(schema, chunk.cells, count, csv=file.suffix == ".csv")
        good += [row for n, row in enumerate(table.to_pylist()) if n not in reasons]
        bad += [(chunk.lines[n], reason, chunk.row(n)) for n, reason in reasons.items()]
        bad += chunk.broken
    return good, sorted(bad, key=lambda row: row[0])


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.lists(CELL, min_size=5, max_size=6), max_size=8),
    ending=st.sampled_from(["\n", "\r\n"]),
    noise=st.sampled_from([b"", b"\xff", b"\n", b'"', b"\r"]),
    at=st.integers(0, 200),
)
def test_blocks_of_csv_read_as_rows_do(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    ending: str,
    noise: bytes,
    at: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ending)
    writer.writerows([["user_id", "country", "specialties", "registered_at", "colour"], *rows])
    content = text.getvalue().encode()
    head = content.index(b"\n") + 1
    file = tmp_path_factory.mktemp("csv") / "users.csv"
    file.write_bytes(content[: head + at] + noise + content[head + at :])
    blocks = _outcome(file, TABLES["users"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_file, "_csv_table", lambda *_: None)
        assert blocks == _outcome(file, TABLES["users"])


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(width=32), CELL,
    st.lists(CELL, max_size=2),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["event_id", "user_id", "time", "rank", "dwell_s", "other"]), VALUES
        ),
        max_size=6,
    ),
    noise=st.sampled_from([b"", b"\xff", b"\n", b"{", b"3\n"]),
    at=st.integers(0, 200),
)
def test_blocks_of_json_read_as_rows_do(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], noise: bytes, at: int
) -> None:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = tmp_path_factory.mktemp("json") / "events.jsonl"
    file.write_bytes(content[:at] + noise + content[at:])
    blocks = _outcome(file, TABLES["events"])

    def refuse(data: bytes, schema: TableSchema) -> pa.Table:
        raise ValueError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_file, "_json_table", refuse)
        assert repr(blocks) == repr(_outcome(file, TABLES["events"]))  # NaN is not NaN


def test_lines_are_right_after_texts_of_several_lines_and_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_file, "BLOCK_BYTES", 40)
    file = tmp_path / "users.csv"
    rows = [f'u{n},"a\nb\nc"' if n % 3 == 0 else f"u{n},x" for n in range(50)]
    rows[40] = ",nameless"
    file.write_text("user_id,country\n" + "\n".join(rows) + "\n")
    good, bad = _outcome(file, TABLES["users"])
    assert [row["user_id"] for row in good] == [f"u{n}" for n in range(50) if n != 40]
    line = 1 + "\n".join(rows[:40]).count("\n") + 2
    assert bad == [(line, "user_id: required but empty", {"user_id": "", "country": "nameless"})]


def test_the_command_names_damaged_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    (source / "edges.parquet").write_bytes(b"PAR1 no")
    said = CliRunner().invoke(app, ["ingest", str(source)])
    assert said.exit_code == 0
    assert "damaged file edges.parquet: not readable" in said.stdout
    again = json.loads(CliRunner().invoke(app, ["ingest", str(source), "--json"]).stdout)
    assert list(again["damaged_files"]) == ["edges.parquet"]
    assert again["skipped_files"] == ["items.csv", "users.jsonl", "events-2026.jsonl"]
