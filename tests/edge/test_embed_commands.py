"""``recmesh embed`` from build to gc on a small data set and a real index; killed in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli import embed_build
from recmesh.cli.embed_switch import lacking
from recmesh.cli.index_server import index_server
from recmesh.cli.main import app
from recmesh.storage import embedding_registry
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EmbeddingRegistry, State
from recmesh.storage.home import Home
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.milvus_index import MilvusIndex
from tests.small_world import ingested_home, train

pytestmark = pytest.mark.milvus
BUILD = ["embed", "build", "--dim", "16", "--no-validate"]
SLOWLY = """
import asyncio, sys
from recmesh.cli import embed_build
from recmesh.cli.main import app
from recmesh.storage.milvus_index import MilvusIndex
embed_build.BATCH = 5
upsert = MilvusIndex.upsert
async def slow(*arguments):
    await upsert(*arguments)
    print("written", flush=True)
    await asyncio.sleep(0.2)
MilvusIndex.upsert = slow
app(sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = ingested_home(tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("RECMESH_HOME", str(made.root))
    train(made, "nlp")
    return made


def recmesh(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.output)
    return answer


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 1, done.output
    return done.output


def test_from_build_to_gc(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    full = recmesh("index")["embedding_version"]
    artifact = ArtifactStore(home.artifacts).live_version("nlp")
    child = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *BUILD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline() == b"written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    registry = EmbeddingRegistry(home.vectors)
    short = f"{full}-d16"
    assert registry.get(short).state is State.BUILDING
    assert registry.live().version == full
    assert ArtifactStore(home.artifacts).live_version("nlp") == artifact
    assert "is not built yet" in refused("embed", "verify", short)

    written: list[str] = []
    upsert = MilvusIndex.upsert

    async def noting(index: MilvusIndex, collection: str, rows: IndexRows) -> None:
        written.extend(rows.ids)
        await upsert(index, collection, rows)

    monkeypatch.setattr(embed_build, "BATCH", 5)
    monkeypatch.setattr(MilvusIndex, "upsert", noting)
    built = recmesh(*BUILD)
    assert (built["state"], built["dim"], built["count"], built["changed"]) == (
        "built",
        16,
        40,
        True,
    )
    assert 0 < len(written) <= 25, "what was written before the kill is not written again"
    assert "is built, and only what is verified" in refused("embed", "switch", short)
    assert recmesh(*BUILD)["changed"] is False

    verified = recmesh("embed", "verify", short)
    assert verified["state"] == "verified"
    assert verified["metrics"]["items"] == 40
    assert verified["metrics"]["recall_at_100_items"] == 1.0
    assert verified["metrics"]["asked_users"] == 3
    assert recmesh("embed", "switch", short)["changed"] is True
    assert recmesh("embed", "switch", short)["changed"] is False
    assert ArtifactStore(home.artifacts).live_version("nlp") == built["artifact"]
    assert recmesh("index")["changed"] is False, "it indexes what is live"
    back = recmesh("embed", "rollback")
    assert (back["version"], back["state"]) == (full, "live")
    assert "nothing to roll back to" in refused("embed", "rollback")
    assert ArtifactStore(home.artifacts).live_version("nlp") == artifact

    assert recmesh("embed", "gc")["collections"] == [], "requests may still ask for it"
    assert "may still be asked for" in refused("embed", "gc", full)
    monkeypatch.setattr(embedding_registry, "DRAINED_S", 0.0)
    dropped = recmesh("embed", "gc")
    assert dropped == {"collections": [built["collection"]], "artifacts": [built["artifact"]]}
    assert recmesh("embed", "gc") == {"collections": [], "artifacts": []}
    (left,) = recmesh("embed", "list")["versions"]
    assert (left["version"], left["state"]) == (full, "live")


def test_what_finds_too_little_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    recmesh(*BUILD)
    (record,) = EmbeddingRegistry(home.vectors).records()

    async def nothing(*_: object) -> float:
        return 0.98

    monkeypatch.setattr("recmesh.cli.embed_verify.recall", nothing)
    said = refused("embed", "verify", record.version)
    assert "finds too little: recall_at_100_items 0.9800" in said
    monkeypatch.undo()
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    assert EmbeddingRegistry(home.vectors).get(record.version).state is State.BUILT

    async def lose_one(address: str) -> None:
        index = MilvusIndex(address)
        await index.delete(record.collection, ["i0"])
        await index.close()

    with index_server(home) as address:
        asyncio.run(lose_one(address))
    assert "holds 39 items" in refused("embed", "verify", record.version)


def test_more_dimensions_than_there_are_is_refused(home: Home) -> None:
    said = refused("embed", "build", "--dim", "385", "--no-validate")
    assert "the encoder has 384" in said


async def test_a_replica_that_is_silent_does_not_speak() -> None:
    assert await lacking(["127.0.0.1:1"], "any") == ["127.0.0.1:1"]
