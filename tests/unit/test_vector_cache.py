"""Texts are embedded once, whatever ends the process that embeds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp import vector_cache
from recmesh.models.nlp.vector_cache import encode_cached

TEXTS = [f"text {'x' * (n % 17)} {n}" for n in range(64)]
PART = 4


class CountingEncoder:
    """A vector is made of its text alone; remembers what it was asked, and may take its time."""

    version = "counting-1"

    def __init__(self, pause_s: float = 0.0) -> None:
        self.texts: list[str] = []
        self.pause_s = pause_s

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> Float32:
        time.sleep(self.pause_s)
        self.texts += texts
        made = [[len(text), *text.encode()[-3:]] for text in texts]
        return np.array(made, np.float32).reshape(-1, 4)


def cached(encoder: CountingEncoder, folder: Path, texts: Sequence[str] = TEXTS) -> Float32:
    return encode_cached(encoder, texts, folder)  # type: ignore[arg-type] # a duck


def test_a_killed_process_loses_no_part_that_it_finished(tmp_path: Path, monkeypatch) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path\n"
            "from tests.unit import test_vector_cache as here\n"
            "here.vector_cache.PART = here.PART\n"
            "here.cached(here.CountingEncoder(0.05), Path(sys.argv[2]))\n",
            str(Path(__file__).parents[2]),
            str(tmp_path),
        ]
    )
    while len(list(tmp_path.glob("*.safetensors"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    parts = len(list(tmp_path.glob("*.safetensors")))
    monkeypatch.setattr(vector_cache, "PART", PART)
    again = CountingEncoder()
    np.testing.assert_array_equal(cached(again, tmp_path), CountingEncoder().encode(TEXTS))
    assert len(again.texts) == len(TEXTS) - parts * PART > 0


def test_many_parts_are_joined_and_nothing_is_embedded_twice(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(vector_cache, "PART", 1)
    monkeypatch.setattr(vector_cache, "MOST_PARTS", 8)
    cached(CountingEncoder(), tmp_path, TEXTS[:40])
    assert [file.name for file in tmp_path.iterdir()] == ["counting-1.safetensors"]
    again = CountingEncoder()
    np.testing.assert_array_equal(cached(again, tmp_path), CountingEncoder().encode(TEXTS))
    assert sorted(again.texts) == sorted(TEXTS[40:])


def test_a_damaged_part_is_embedded_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(vector_cache, "PART", PART)
    cached(CountingEncoder(), tmp_path)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"not safetensors")
    again = CountingEncoder()
    np.testing.assert_array_equal(cached(again, tmp_path), CountingEncoder().encode(TEXTS))
    assert len(again.texts) == PART
