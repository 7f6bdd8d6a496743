"""Which embedding version may go live, what goes back, and what a crash leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recmesh.cli.embed_gc import droppable
from recmesh.storage import embedding_registry
from recmesh.storage.embedding_registry import (
    DRAINED_S,
    EmbeddingRegistry,
    EmbeddingVersion,
    State,
)
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddingRegistry:
    return EmbeddingRegistry(tmp_path)


def made(
    registry: EmbeddingRegistry, name: str, state: State = State.VERIFIED, version: str = ""
) -> EmbeddingVersion:
    record = EmbeddingVersion(version or f"space-{name}", name, 4, 10, artifact=name)
    for step in (State.BUILDING, State.BUILT, State.VERIFIED):
        record = registry.save(record, step)
        if step is state:
            break
    return record


def states(registry: EmbeddingRegistry) -> dict[str, State]:
    return {record.collection: record.state for record in registry.records()}


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    class Clock:
        @staticmethod
        def now(zone: object) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=seconds)

        fromisoformat = datetime.fromisoformat

    monkeypatch.setattr(embedding_registry, "datetime", Clock)


def test_a_record_is_read_as_it_was_written(registry: EmbeddingRegistry) -> None:
    record = made(registry, "a")
    assert registry.get("a") == registry.get("space-a") == record
    assert list(record.times) == ["building", "built", "verified"]


def test_nothing_is_live_at_first(registry: EmbeddingRegistry) -> None:
    with pytest.raises(NotFoundError, match="recmesh index"):
        registry.live()
    assert registry.records() == registry.served() == []
    assert registry.previous() is None


@pytest.mark.parametrize("state", [State.BUILDING, State.BUILT])
def test_only_what_is_verified_goes_live(registry: EmbeddingRegistry, state: State) -> None:
    made(registry, "a", state)
    with pytest.raises(ConfigurationError, match=f"is {state}"):
        registry.switch("a")
    with pytest.raises(NotFoundError):
        registry.live()


def test_a_switch_retires_the_one_before_and_a_rollback_brings_it_back(
    registry: EmbeddingRegistry,
) -> None:
    made(registry, "a"), made(registry, "b")
    assert registry.switch("a")
    assert registry.switch("b")
    assert not registry.switch("b"), "a switch done twice is one"
    assert states(registry) == {"a": State.RETIRED, "b": State.LIVE}
    assert registry.rollback().collection == "a"
    assert states(registry) == {"a": State.LIVE, "b": State.RETIRED}
    with pytest.raises(NotFoundError, match="nothing to roll back to"):
        registry.rollback()
    assert registry.live().collection == "a", "a rollback done twice does not go forward"


def test_the_one_before_may_be_switched_to(registry: EmbeddingRegistry) -> None:
    made(registry, "a"), made(registry, "b")
    registry.switch("a"), registry.switch("b")
    assert registry.switch("a")
    assert registry.rollback().collection == "b"


def test_what_was_retired_longer_ago_must_be_built_anew(registry: EmbeddingRegistry) -> None:
    for name in ("a", "b", "c"):
        made(registry, name)
        registry.switch(name)
    with pytest.raises(ConfigurationError, match="is retired"):
        registry.switch("a")


def test_served_are_all_that_requests_may_ask_for(
    registry: EmbeddingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        made(registry, name)
        registry.switch(name)
    made(registry, "d", State.BUILDING), made(registry, "e", State.BUILT), made(registry, "f")
    assert [r.collection for r in registry.served()] == ["a", "b", "c", "e", "f"]
    assert [r.collection for r in droppable(registry, [])] == ["d"]
    later(monkeypatch, DRAINED_S + 1)
    assert [r.collection for r in registry.served()] == ["b", "c", "e", "f"]
    with pytest.raises(ConfigurationError, match="experiment stop wide"):
        droppable(registry, ["f"], {registry.get("f").version: "wide"})
    assert [r.collection for r in droppable(registry, ["f"])] == ["a", "d", "f"]
    for needed in ("b", "c"):
        with pytest.raises(ConfigurationError, match="may still be asked for"):
            droppable(registry, [needed])
    assert [r.collection for r in droppable(registry, ["a"])] == ["a", "d"]


def test_whoever_dies_after_the_switch_leaves_nothing_undecided(
    registry: EmbeddingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(registry, "a"), made(registry, "b")
    registry.switch("a")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddingRegistry, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        registry.switch("b")
    monkeypatch.undo()
    assert registry.live().collection == "b"
    assert states(registry) == {"a": State.RETIRED, "b": State.LIVE}
    assert {r.collection for r in registry.served()} == {"a", "b"}
    made(registry, "c")
    registry.switch("c")
    assert states(registry) == {"a": State.RETIRED, "b": State.RETIRED, "c": State.LIVE}


def test_a_version_that_was_built_twice_is_two_records(registry: EmbeddingRegistry) -> None:
    made(registry, "old", version="space"), made(registry, "new", version="space")
    registry.switch("old")
    assert registry.get("space").collection == "new"
    assert registry.get("old").state is State.LIVE


def test_every_change_is_written_down(registry: EmbeddingRegistry, tmp_path: Path) -> None:
    made(registry, "a"), made(registry, "b")
    registry.switch("a"), registry.switch("b"), registry.rollback()
    registry.remove(registry.get("b"))
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(line["collection"], line["state"]) for line in lines[6:]] == [
        ("a", "live"),
        ("b", "live"),
        ("a", "retired"),
        ("a", "live"),
        ("b", "retired"),
        ("b", "dropped"),
    ]


@pytest.mark.parametrize("file", ["live.json", "versions/a.json"])
def test_a_damaged_file_says_how_to_mend_it(
    registry: EmbeddingRegistry, tmp_path: Path, file: str
) -> None:
    made(registry, "a")
    registry.switch("a")
    (tmp_path / file).write_text('{"version": "x"}')
    with pytest.raises(DataError, match="delete it and run: recmesh index"):
        registry.live()


def test_an_unknown_version_is_refused_by_name(registry: EmbeddingRegistry) -> None:
    made(registry, "a")
    with pytest.raises(NotFoundError, match="no embedding version b; there is space-a"):
        registry.get("b")
