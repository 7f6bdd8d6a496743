"""``recmesh retrain nlp`` with a real index: artifact and vectors go live together, and back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli.index_server import index_server
from recmesh.cli.main import app
from recmesh.cli.train import Job, train_one
from recmesh.models.model import silent
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingRegistry, State
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from tests.small_world import NOW_UNIX_S, tastes_home

pytestmark = pytest.mark.milvus
EARLY = datetime.fromtimestamp(NOW_UNIX_S + 850_000, UTC)
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
    await asyncio.sleep(0.5)
MilvusIndex.upsert = slow
app(["retrain", "nlp"])
"""


def recmesh(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def _count(address: str, collection: str) -> int:
    index = MilvusIndex(address)
    try:
        return await index.count(collection)
    finally:
        await index.close()


def test_killed_while_it_builds_it_goes_on_and_both_switch_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tastes_home(tmp_path, until=EARLY))
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    old = train_one(Job("nlp"), home, Dataset.open(home.dataset), silent).version
    recmesh("index")
    tastes_home(tmp_path)
    store, registry = ArtifactStore(home.artifacts), EmbeddingRegistry(home.vectors)
    before = registry.live()

    child = subprocess.Popen(
        [sys.executable, "-c", SLOWLY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    for _ in range(2):
        assert child.stdout.readline() == b"written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert (store.live_version("nlp"), registry.live()) == (old, before)
    assert [r.state for r in registry.records()] == [State.LIVE, State.BUILDING]

    said = recmesh("retrain", "nlp")
    (model,) = said["models"]
    assert (model["outcome"], said["resumed"]) == ("promoted", True)
    live = registry.live()
    assert live.artifact == store.live_version("nlp") == model["candidate"] != old
    assert live.version == before.version, "the same space, other data"
    with index_server(home) as address:
        assert asyncio.run(_count(address, live.collection)) == 20
    assert said["embedding"]["recall_at_100_items"] == 1.0

    assert recmesh("retrain", "nlp")["models"][0]["outcome"] == "unchanged"
    recmesh("retrain", "nlp", "--rollback")
    assert registry.live().collection == before.collection
    assert store.live_version("nlp") == old
