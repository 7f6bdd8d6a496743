"""``recmesh events prune``: what it deletes, what it refuses, and who deletes while a mesh runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog, save_position
from recmesh.storage.home import Home
from tests.conformance.test_event_log import event

DAY_MS = 86_400_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Two events that are 500 days old, and a new one."""
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    place = Home(tmp_path)
    database = Database.for_writing("", place.database)
    now_ms = int(1000 * time.time())
    log = EventLog(database)
    log.write([event("a"), event("b")], now_ms - 500 * DAY_MS)
    log.write([event("c")], now_ms)
    database.close()
    return place


def run(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["events", "prune", *words])
    assert done.exit_code == status, done.output
    return " ".join(done.output.split())


def left(home: Home) -> int:
    database = Database.for_reading("", home.database)
    assert database is not None
    try:
        return EventLog(database).read().events.num_rows
    finally:
        database.close()


def test_old_events_go_once(home: Home) -> None:
    assert "nothing was deleted" in run("--older-than", "400d", "--dry-run")
    assert left(home) == 3
    assert json.loads(run("--older-than", "400d", "--json"))["deleted"] == 2
    assert json.loads(run("--older-than", "400d", "--json"))["deleted"] == 0
    assert left(home) == 1


def test_the_setting_says_how_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_EVENTS__KEEP_DAYS", "600")
    assert "0 events" in run()
    monkeypatch.setenv("RECMESH_EVENTS__KEEP_DAYS", "400")
    assert "2 deleted" in run()


@pytest.mark.parametrize(
    ("age", "why"),
    [("soon", "write a number and d, w or y"), ("30d", "at least 31"), ("-400d", "write a number")],
)
def test_ages_that_cannot_be_are_refused(home: Home, age: str, why: str) -> None:
    assert why in run(f"--older-than={age}", status=1)
    assert left(home) == 3


def test_a_consumer_that_is_behind_is_named_and_can_be_forgotten(home: Home) -> None:
    database = Database.for_writing("", home.database)
    with database.writing() as connection:
        save_position(connection, "read-counts", 1)
    database.close()
    assert "read-counts has taken events up to 1 only" in run("--older-than", "400d")
    assert left(home) == 2
    assert "no such consumer" in run("--older-than", "400d", "--forget", "gone", status=1)
    run("--older-than", "400d", "--forget", "read-counts")
    assert left(home) == 1


def test_nothing_is_deleted_beside_a_writer(home: Home) -> None:
    writer = Database.for_writing("", home.database)
    try:
        assert "another process" in run("--older-than", "400d", status=1)
    finally:
        writer.close()
    assert left(home) == 3


def test_without_a_database_there_is_nothing_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "empty"))
    assert "nothing was recorded yet" in run("--older-than", "400d", status=1)
    assert not (tmp_path / "empty").exists()
