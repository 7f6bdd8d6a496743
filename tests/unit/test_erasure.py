"""Erasing from files, and finding what was not erased."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recmesh.storage.artifacts import ArtifactStore, ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import ErasedUsers, id_hash
from recmesh.storage.erasure import checked_files, erase_from_files, search_files
from recmesh.storage.home import Home
from tests.small_world import ingested_home

SALT = b"salt"


def erased(*user_ids: str) -> ErasedUsers:
    return ErasedUsers(SALT, frozenset(id_hash(SALT, user_id) for user_id in user_ids))


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ("d4", True),
        ('{"user_id": "d4"}', True),
        ("a,d4,b", True),
        ("d42", False),
        ("xd4", False),
        ("d4@home", True),
        ("d42 and d4.", True),
        ("d42 and d4", True),
        ("", False),
    ],
)
def test_ids_are_found_as_whole_words(tmp_path: Path, content: str, holds: bool) -> None:
    (tmp_path / "notes.txt").write_text(content)
    (check,) = search_files(Home(tmp_path), ["d4", "elsewhere"])
    assert check.remaining == int(holds)
    assert ("notes.txt" in check.note) == holds


def test_erasing_is_complete_and_leaves_the_others(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    before = Dataset.open(home.dataset)
    others = before.events.num_rows - 1
    assert erase_from_files(home, erased("colleague")) == []
    now = Dataset.open(home.dataset)
    assert now.version != before.version
    assert now.users["user_id"].to_pylist() == ["reader", "stranger"]
    assert now.events.num_rows == others
    assert now.edges.num_rows == 0
    assert now.items.num_rows == 40
    assert {check.remaining for check in checked_files(home, ["colleague"], [])} == {0}
    assert sum(check.remaining for check in checked_files(home, ["reader"], [])) == 3
    files = sorted(file.name for file in home.dataset.glob("*.parquet"))
    assert files == sorted(file.name for file in now.files.values())


def test_erasing_again_changes_nothing(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    erase_from_files(home, erased("colleague"))
    once = Dataset.open(home.dataset).files
    erase_from_files(home, erased("colleague"))
    assert Dataset.open(home.dataset).files == once


def test_trained_models_forget_ids_and_keep_their_shape(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    store = ArtifactStore(home.artifacts)
    card = ModelCard("network", "o", "s", "v", "", 0)
    tensor = np.arange(3, dtype=np.float32)
    old = store.publish(card, {"w": tensor}, {"user_ids": ["a", "b", "c"], "item_ids": ["b2"]})
    store.publish(card, {"w": tensor + 1}, {"user_ids": ["c"], "item_ids": []})
    assert erase_from_files(home, erased("b")) == ["network"]
    loaded = store.load("network", old)
    assert loaded.strings["user_ids"] == ["a", "erased-1", "c"]
    assert loaded.strings["item_ids"] == ["b2"]
    np.testing.assert_array_equal(loaded.tensors["w"], tensor)
    (note,) = [c.note for c in checked_files(home, ["b"], ["network"]) if c.store == "artifacts"]
    assert "ids taken out of network" in note
    assert "to be retrained" in note


def test_quarantined_rows_go_whatever_shape_they_have(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    quarantine = home.dataset / "quarantine"
    quarantine.mkdir()
    rows = [{"user_id": "b"}, {"user_id": "bb"}, "x,b,2026", {"item_ids": ["b"]}, None]
    lines = [json.dumps({"line": n, "row": row}) for n, row in enumerate(rows)]
    (quarantine / "users.csv.jsonl").write_text("".join(f"{line}\n" for line in lines))
    erase_from_files(home, erased("b"))
    assert (quarantine / "users.csv.jsonl").read_text().splitlines() == [lines[1], lines[4]]


def test_nobody_erased_touches_nothing(tmp_path: Path) -> None:
    assert erase_from_files(Home(tmp_path / "nowhere"), erased()) == []
    assert erase_from_files(Home(tmp_path / "nowhere"), erased("b")) == []
