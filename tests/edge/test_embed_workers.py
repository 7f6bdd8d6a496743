"""``recmesh embed build --workers``: killed in between, no text is lost or embedded twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.encoder_pool import encoder_pool
from recmesh.models.nlp import vector_cache
from recmesh.models.nlp.encoder import Encoder, resolved
from recmesh.models.nlp.training import item_texts, texts_to_embed
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from tests.small_world import ingested_home

pytestmark = pytest.mark.milvus
BUILD = ["embed", "build", "--workers", "2", "--no-validate", "--json"]
SLOWLY = """
import sys, time
from recmesh.cli.main import app
from recmesh.models.nlp import vector_cache
vector_cache.PART = 4
write = vector_cache._write
def slow(*arguments):
    write(*arguments)
    print("written", flush=True)
    time.sleep(0.5)
vector_cache._write = slow
app(sys.argv[1:])
"""


def keys(home: Home) -> Counter[bytes]:
    return Counter(
        row.tobytes()
        for file in home.text_vectors.glob("*.safetensors")
        for row in load_file(file)["keys"]
    )


def test_killed_in_between_nothing_is_lost_or_embedded_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    dataset = Dataset.open(home.dataset)
    texts = texts_to_embed(dataset).all
    child = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *BUILD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline() == b"written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = keys(home)
    assert 12 <= len(before) < len(set(texts))

    asked: list[str] = []

    def noting(*arguments: object, **named: object) -> object:
        embed = arguments[4]

        def parts(of: list[list[str]]) -> object:
            asked.extend(text for part in of for text in part)
            return embed(of)  # type: ignore[operator]

        return cached(*arguments[:4], parts)  # type: ignore[arg-type]

    cached = vector_cache.encode_cached
    monkeypatch.setattr("recmesh.cli.embed_build.encode_cached", noting)
    built = CliRunner().invoke(app, BUILD)
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["count"] == 40
    assert len(asked) == len(set(texts)) - len(before)
    assert set(keys(home).values()) == {1}
    assert len(keys(home)) == len(set(texts))
    artifact = ArtifactStore(home.artifacts).load("nlp", json.loads(built.stdout)["artifact"])
    exact = Encoder.choose().encode(item_texts(dataset))
    np.testing.assert_allclose(artifact.tensors["item_vectors"], exact, atol=1e-6)


def test_a_worker_that_dies_is_replaced_and_its_part_embedded(tmp_path: Path) -> None:
    import psutil

    parts = [[f"statin {number} {n}" for n in range(4)] for number in range(30)]
    with encoder_pool(Home(tmp_path), "", resolved(), 2) as embed_parts:
        found = {}
        for number, vectors in embed_parts(parts):
            if not found:
                workers = [
                    process
                    for process in psutil.Process().children(recursive=True)
                    if "EncoderWorker" in "".join(process.cmdline()[:1])
                ]
                assert len(workers) == 2
                workers[0].kill()
            assert number not in found
            found[number] = vectors
    assert sorted(found) == list(range(30))
    np.testing.assert_allclose(found[7], Encoder.choose().encode(parts[7]), atol=1e-6)
