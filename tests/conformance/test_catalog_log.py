"""One suite for the database on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from recmesh.storage.catalog_log import CatalogLog, Delete, Erase, Indexed, Row, Upsert
from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.catalog_tables import METADATA, SCHEMAS
from recmesh.storage.database import REVISION, Database
from recmesh.storage.errors import (
    ConfigurationError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
)
from recmesh.storage.group_commit import MOST_WAITING, GroupCommit
from tests.small_world import dataset


@pytest.fixture
def log(database: Database) -> CatalogLog:
    return CatalogLog(database)


def item(item_id: str, title: str = "Title", **fields: object) -> Row:
    row: Row = dict.fromkeys(SCHEMAS["items"].columns.names, "")
    lists = {name: ["a", "b"] for name in ("topics", "specialties", "countries", "authors")}
    times = {"published_at": 1_700_000_000_123, "expires_at": None}
    return row | lists | times | {"item_id": item_id, "title": title} | fields


def user(user_id: str) -> Row:
    return {
        "user_id": user_id,
        "specialties": ["cardiology"],
        "country": "DE",
        "language": "de",
        "interests": "",
        "consents_personalisation": True,
        "consents_sponsored": False,
        "registered_at": None,
    }


def edge(source: str, target: str) -> Row:
    return {
        "source_user_id": source,
        "target_user_id": target,
        "edge_type": "follow",
        "weight": 1.0,
        "created_at": None,
    }


def ids(log: CatalogLog, after_seq: int = 0) -> list[tuple[str, bool]]:
    changed = log.read(after_seq).tables["items"]
    return list(zip(changed["item_id"].to_pylist(), changed["deleted"].to_pylist(), strict=True))


def test_what_is_written_is_read_back(log: CatalogLog) -> None:
    assert log.write([Upsert("items", [item("i1"), item("i2", "Ünïcode ☃")])]) == [2]
    changes = log.read()
    assert (changes.through_seq, changes.head_seq) == (2, 2)
    found = changes.tables["items"].to_pylist()
    assert found[1]["title"] == "Ünïcode ☃"
    assert found[0]["topics"] == ["a", "b"]
    assert found[0]["published_at"].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert found[0]["expires_at"] is None


def test_followers_see_each_key_once_as_it_is_now(log: CatalogLog) -> None:
    log.write([Upsert("items", [item("i1"), item("i2"), item("i3")])])
    seen = log.read().through_seq
    assert ids(log, seen) == []
    log.write([Upsert("items", [item("i2", "new")]), Delete("items", [("i1",), ("never",)])])
    assert ids(log, seen) == [("i2", False), ("i1", True), ("never", True)]
    log.write([Upsert("items", [item("i1")])])
    assert ids(log) == [("i3", False), ("i2", False), ("never", True), ("i1", False)]


def test_reading_in_pages_is_reading_at_once(log: CatalogLog) -> None:
    log.write([Upsert("items", [item(f"i{n}") for n in range(25)]), Erase(["u"])])
    log.write([Upsert("users", [user(f"u{n}") for n in range(25)])])
    log.write([Delete("items", [(f"i{n}",) for n in range(0, 25, 3)])])
    seq, keys, erased = 0, [], set()
    while True:
        page = log.read(seq, limit=4)
        keys += page.tables["items"]["item_id"].to_pylist()
        keys += page.tables["users"]["user_id"].to_pylist()
        erased |= page.erased.hashes
        seq = page.through_seq
        if seq == page.head_seq:
            break
    assert sorted(keys) == sorted([f"i{n}" for n in range(25)] + [f"u{n}" for n in range(25)])
    assert erased == log.read().erased.hashes


def test_delete_tells_how_many_were_there(log: CatalogLog) -> None:
    log.write([Upsert("items", [item("i1"), item("i2")])])
    assert log.write([Delete("items", [("i1",), ("i9",)])]) == [1]
    assert log.write([Delete("items", [("i1",), ("i2",)], ingested=[("i1",)])]) == [1]
    assert log.write([Delete("items", [("i5",), ("i6",)], ingested=[("i5",)])]) == [1]


def test_an_erased_user_leaves_a_hash_and_is_never_taken_again(log: CatalogLog) -> None:
    log.write([Upsert("users", [user("u1"), user("u2")]), Upsert("edges", [edge("u2", "u1")])])
    assert log.write([Erase(["u1"])]) == [1]
    assert log.write([Erase(["u1"])]) == [0]
    changes = log.read()
    assert "u1" in changes.erased
    assert "u2" not in changes.erased
    tables = ("users", "edges", "events", "quarantined_events", "campaign_slots", "decisions")
    assert log.rows_of_users(["u1"]) == dict.fromkeys(tables, 0)
    refused, taken = log.write(
        [
            Upsert("edges", [edge("u2", "u3"), edge("u2", "u1")]),
            Upsert("users", [user("u3")]),
        ]
    )
    assert isinstance(refused, InvalidRequestError)
    assert refused.field == "edges[1].target_user_id"
    assert "u1" not in str(refused)
    assert taken == 1, "one message that is refused costs the others nothing"
    assert log.read().tables["edges"].num_rows == 0


def test_the_position_of_the_index_is_kept(log: CatalogLog) -> None:
    assert log.index_position("c") is None
    log.write([Indexed("c", 5), Indexed("d", 7)])
    log.write([Indexed("c", 9)])
    assert (log.index_position("c"), log.index_position("d")) == (9, 7)


def test_opening_again_changes_nothing(database_uri: str, tmp_path: Path) -> None:
    for count in (1, 2):
        database = Database.for_writing(database_uri, tmp_path / "recmesh.db")
        log = CatalogLog(database)
        log.write([Upsert("items", [item(f"i{count}")])])
        assert log.read().tables["items"].num_rows == count
        salt = log.read().erased.salt
        database.close()
    reader = Database.for_reading(database_uri, tmp_path / "recmesh.db")
    assert reader is not None
    assert CatalogLog(reader).read().erased.salt == salt
    with pytest.raises(ConfigurationError, match="for reading"):
        CatalogLog(reader).write([Delete("items", [("i1",)])])
    reader.close()


def test_nothing_written_yet(database_uri: str, tmp_path: Path) -> None:
    assert Database.for_reading(database_uri, tmp_path / "recmesh.db") is None


def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []


def test_what_an_earlier_release_wrote_is_read_once_it_is_brought_up_to_date(
    database_uri: str, tmp_path: Path
) -> None:
    file = tmp_path / "recmesh.db"
    assert Database.for_reading(database_uri, file) is None
    database = Database.for_writing(database_uri, file)
    with database.reading() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISION
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(ConfigurationError, match="earlier release"):
        Database.for_reading(database_uri, file)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    later = Database.for_reading(database_uri, file)
    assert later is not None, "a later release only adds"
    later.close()
    database.close()


def test_concurrent_writers_share_transactions_and_lose_nothing(log: CatalogLog) -> None:
    groups: list[int] = []

    def commit(writes: list[Upsert]) -> list[int]:
        groups.append(len(writes))
        return log.write(writes)

    together = GroupCommit(commit)

    def write(number: int) -> None:
        together.submit(Upsert("items", [item(f"i{number}")])).result(30)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together.close()
    assert sorted(key for key, _ in ids(log)) == sorted(f"i{n}" for n in range(40))
    assert log.read().head_seq == 40
    assert sum(groups) == 40
    with pytest.raises(UnavailableError, match="ended"):
        together.submit(Upsert("items", [item("late")]))


def test_more_writes_than_may_wait_are_refused() -> None:
    goes_on = threading.Event()

    def commit(writes: Sequence[int]) -> list[int]:
        goes_on.wait(30)
        return list(writes)

    together = GroupCommit(commit)
    answers: list[Future[int]] = []

    def submit_too_many() -> None:
        for number in range(2 * MOST_WAITING):
            answers.append(together.submit(number))  # noqa: PERF401 - raises half-way

    with pytest.raises(OverloadedError, match="wait already"):
        submit_too_many()
    goes_on.set()
    assert [answer.result(30) for answer in answers] == list(range(len(answers)))
    together.close()


def test_what_a_database_refuses_is_every_callers_error(log: CatalogLog) -> None:
    together = GroupCommit(log.write)
    lacking = together.submit(Upsert("items", [item("i1") | {"item_id": None}]))
    with pytest.raises(UnavailableError, match="database failed"):
        lacking.result(30)
    assert together.submit(Upsert("items", [item("i1")])).result(30) == 1
    together.close()


def test_the_overlay_lays_what_was_written_over_what_was_ingested(
    log: CatalogLog, tmp_path: Path
) -> None:
    base = dataset(tmp_path)
    assert base.under(CatalogOverlay(log.read())).version == base.version
    log.write(
        [
            Upsert("items", [item("z"), item("i3", "changed"), item("a")]),
            Delete("items", [("i0",), ("i1",)]),
            Upsert("items", [item("i1", "back")]),
            Erase(["colleague"]),
            Upsert("edges", [edge("reader", "stranger")]),
        ]
    )
    now = base.under(CatalogOverlay(log.read()))
    assert now.version != base.version
    assert now.items["item_id"].to_pylist() == [f"i{n}" for n in range(1, 40)] + ["a", "z"]
    assert now.items["title"].to_pylist()[:3] == ["back", "Title 2", "changed"]
    assert now.users["user_id"].to_pylist() == ["reader", "stranger"]
    assert "colleague" not in now.events["user_id"].to_pylist()
    assert now.edges["target_user_id"].to_pylist() == ["stranger"]
    assert base.users.num_rows == 3


# Writes until it is killed; says every write that was acknowledged.
WRITER = """
import sys
from pathlib import Path
from recmesh.storage.catalog_log import CatalogLog, Upsert
from recmesh.storage.database import REVISION, Database
from tests.conformance.test_catalog_log import item

log = CatalogLog(Database.for_writing(sys.argv[1], Path(sys.argv[2])))
number = 0
while True:
    log.write([Upsert("items", [item(f"i{number}-{part}") for part in range(20)])])
    print(number, flush=True)
    number += 1
"""


def test_kill_9_loses_nothing_acknowledged_and_leaves_no_half_write(
    database_uri: str, tmp_path: Path
) -> None:
    file = tmp_path / "recmesh.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, database_uri, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, "."])},
    )
    assert writer.stdout is not None
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 30:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    database = Database.for_writing(database_uri, file)
    found = [key for key, _ in ids(CatalogLog(database))]
    database.close()
    whole = [f"i{n}-{part}" for n in range(len(found) // 20) for part in range(20)]
    assert found == whole
    assert len(found) >= 20 * (acknowledged + 1)


def test_one_process_writes_an_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "recmesh.db"
    database = Database.for_writing("", file)
    with pytest.raises(ConfigurationError, match="another process writes"):
        Database.for_writing("", file)
    database.close()
    Database.for_writing("", file).close()


def test_erased_bytes_leave_the_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "recmesh.db"
    database = Database.for_writing("", file)
    log = CatalogLog(database)
    log.write([Upsert("users", [user("doctor-jekyll")])])

    def holders() -> list[str]:
        files = tmp_path.glob("recmesh.db*")
        return [found.name for found in files if b"doctor-jekyll" in found.read_bytes()]

    assert holders()
    log.write([Erase(["doctor-jekyll"])])
    assert holders() == []
    database.close()


@pytest.mark.parametrize("uri", ["mysql://host/db", "nonsense"])
def test_other_databases_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"database\.uri"):
        Database.for_writing(uri, tmp_path / "x")


def test_a_database_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="database failed"):
        Database.for_writing("postgresql://postgres@127.0.0.1:1/none", tmp_path / "x")
