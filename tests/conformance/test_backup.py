"""What is backed up from one database restores into either."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.backup import MANIFEST, make_backup, read_manifest, restore_backup
from recmesh.storage.catalog_tables import METADATA
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError
from recmesh.storage.home import Home
from recmesh.storage.model_tables import MODEL_CHANGES, MODEL_VERSIONS
from tests.small_world import ingested_home, train

ROWS = 3
REGISTRY = (MODEL_VERSIONS, MODEL_CHANGES)


def value(column: sa.Column[Any], number: int) -> Any:
    kind = type(column.type)
    if column.name == "stage":
        return "retired"
    if column.nullable and number == 2:
        return None
    if kind is sa.Boolean:
        return number == 1
    if kind in (sa.Double, sa.Float):
        return 0.1 * number
    if kind is sa.LargeBinary:
        return f"{column.name}\0é{number}".encode()
    if kind is sa.JSON:
        return [f"{column.name} é", str(number)]
    return f"{column.name} é{number}" if kind is sa.Text else number + 1


def fill(connection: sa.Connection, table: sa.Table) -> None:
    """Rows of every kind of value; the two tables that hold one row hold it changed."""
    single = table.columns.keys()[:2] == ["id", "seq"]
    connection.execute(sa.delete(table))
    for number in range(1 if single else ROWS):
        connection.execute(
            sa.insert(table).values({c.name: value(c, number) for c in table.columns})
        )


def places(uri: str, home: Home) -> dict[Path, list[sa.Table]]:
    """Tables by the file that SQLite keeps them in."""
    everything = METADATA.sorted_tables
    if uri:
        return {home.database: everything}
    main = [table for table in everything if table not in REGISTRY]
    return {home.database: main, home.model_registry: list(REGISTRY)}


def rows(uri: str, home: Home) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for file, tables in places(uri, home).items():
        database = Database.for_reading(uri, file)
        assert database is not None
        with database.reading() as connection:
            for table in tables:
                found[table.name] = sorted(map(repr, connection.execute(sa.select(table))))
        database.close()
    return found


@pytest.fixture
def home(tmp_path: Path, database_uri: str) -> Home:
    """Data, a model, a key, what should stay out, and rows in every table."""
    made = ingested_home(tmp_path / "from")
    train(made, "network")
    made.attribution_keys.write_text("a key")
    for name in ("policies/live.json", "run/mesh.json", "vectors/milvus.db", "deployed/.cf.lock"):
        (made.root / name).parent.mkdir(exist_ok=True)
        (made.root / name).write_text(name)
    for file, tables in places(database_uri, made).items():
        database = Database.for_writing(database_uri, file)
        with database.writing() as connection:
            for table in tables:
                fill(connection, table)
        database.close()
    return made


def test_everything_comes_back_and_into_the_other_database_too(
    home: Home, database_uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "backup.tar"
    manifest = make_backup(file, home, database_uri)
    assert file.stat().st_mode & 0o077 == 0
    assert manifest == read_manifest(file)
    names = set(manifest.files)
    assert {"home/attribution.keys", "home/policies/live.json"} <= names
    assert not [n for n in names if "run/" in n or "vectors" in n or "lock" in n]

    before = rows(database_uri, home)
    assert all(before[table.name] for table in METADATA.sorted_tables)
    other = "" if database_uri else request.getfixturevalue("empty_postgresql")
    back = Home(tmp_path / "back")
    assert restore_backup(file, back, other) == manifest
    assert rows(other, back) == before
    assert Dataset.open(back.dataset).version == Dataset.open(home.dataset).version
    live = ArtifactStore(home.artifacts).load("network", "")
    assert ArtifactStore(back.artifacts).load("network", "").version == live.version
    assert back.attribution_keys.read_text() == "a key"

    # New numbers come after those that were restored.
    database = Database.for_writing(other, back.database if other else back.model_registry)
    with database.writing() as connection:
        change = {c.name: value(c, 7) for c in MODEL_CHANGES.columns if c.name != "seq"}
        made = connection.execute(sa.insert(MODEL_CHANGES).values(change))
        assert made.inserted_primary_key == (ROWS + 1,)
    database.close()


def test_only_into_what_is_empty(home: Home, database_uri: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    make_backup(file, home, database_uri)
    with pytest.raises(ConfigurationError, match="is there already"):
        restore_backup(file, home, database_uri)
    back = Home(tmp_path / "back")
    if database_uri:
        with pytest.raises(ConfigurationError, match="has rows already"):
            restore_backup(file, back, database_uri)
        assert not back.dataset.exists()


def test_damage_is_found_before_anything_is_written(
    home: Home, database_uri: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar"
    make_backup(file, home, database_uri)
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        member = tar.getmember("home/attribution.keys")
    changed = bytearray(whole)
    changed[member.offset_data] ^= 1
    for content in (bytes(changed), whole[: len(whole) // 2], b"", b"something else" * 1000):
        file.write_bytes(content)
        back = Home(tmp_path / "back")
        with pytest.raises(DataError, match=r"damaged|cut short|no backup"):
            restore_backup(file, back, "")
        assert not back.root.exists()


def test_nothing_to_back_up_and_nothing_to_restore(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing was ingested"):
        make_backup(tmp_path / "x.tar", Home(tmp_path / "none"), "")
    assert not (tmp_path / "x.tar").exists()
    with pytest.raises(NotFoundError):
        read_manifest(tmp_path / "x.tar")


def test_another_format_says_so(tmp_path: Path) -> None:
    said = tmp_path / MANIFEST
    said.write_text(json.dumps({"format": 2}))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(said, MANIFEST)
    with pytest.raises(DataError, match="format 2"):
        read_manifest(tmp_path / "x.tar")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*words: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(app, ["backup", *words])
        assert done.exit_code == exit_code, done.output
        return done.output

    monkeypatch.setenv("RECMESH_HOME", str(ingested_home(tmp_path / "from").root))
    file = str(tmp_path / "backup.tar")
    assert "files" in said("create", file)
    assert "restores" in said("check", file)
    assert "is there already" in said("restore", file, exit_code=1)
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "back"))
    assert "recmesh index" in said("restore", file)
    assert said("check", str(tmp_path / "absent"), exit_code=1).strip().count("\n") == 0
