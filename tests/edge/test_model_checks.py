"""Each broken model fails the one check that is about its fault, and a clean twin fails none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recmesh.models.model import TrainOptions
from recmesh.offline.model_checks.checks import latency, memory
from recmesh.offline.model_checks.judged import Judged, all_judged, judged
from recmesh.offline.model_checks.model_folder import ModelFolder
from recmesh.offline.model_checks.registry import CHECKS
from recmesh.offline.model_checks.result import Result, Status
from recmesh.offline.model_checks.subject import Subject
from recmesh.offline.model_checks.target import opened
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from tests.checked_server import served
from tests.small_world import tastes_home


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 1.0)
    monkeypatch.setattr(latency, "LEAST_CALLS", 20)
    monkeypatch.setattr(memory, "CALLS", 100)


async def results(model: str, how: str, home: Path) -> dict[str, Judged]:
    with served(model, how) as address:
        async with opened(address, Home(home)) as subject:
            return {one.check.id: one async for one in all_judged(subject)}


def failed(found: dict[str, Judged]) -> list[str]:
    return [name for name, one in found.items() if one.result.status is Status.FAILED]


@pytest.mark.parametrize("how", ["ours", "raw"])
async def test_a_clean_model_fails_nothing(how: str, tmp_path: Path) -> None:
    found = await results("CleanModel", how, tmp_path)
    assert {n: found[n].result.said for n in failed(found)} == {}
    unseen = {n for n, one in found.items() if one.result.status is Status.NOT_CHECKED}
    # On a machine that others keep busy, times are not judged.
    assert unseen - {"latency"} == {"skew", "leakage", "quality", "calibration"}
    assert "only an address is known" in found["leakage"].result.said


@pytest.mark.parametrize(
    ("model", "how", "check", "words"),
    [
        ("WorstFirst", "raw", "ordering", "order is wrong"),
        ("BatchStandardised", "ours", "batch-independence", "depends on the other items"),
        ("Leaky", "ours", "memory", "leaks memory"),
        ("Endless", "ours", "deadline", "work went on after the deadline"),
        ("NanOnNobody", "raw", "unknown", "a user that nobody knows Retrieve gave NaN"),
        ("InfiniteForNobody", "raw", "unknown", "a user that nobody knows Score gave inf"),
        ("InfiniteForNobody", "ours", "unknown", "scores that are infinite"),
        ("ZeroForNobody", "raw", "unknown", "gave 0 for all"),
    ],
)
async def test_a_broken_model_fails_the_check_of_its_fault_and_no_other(
    model: str, how: str, check: str, words: str, tmp_path: Path
) -> None:
    found = await results(model, how, tmp_path)
    assert {n: found[n].result.said for n in failed(found) if n != check} == {}
    result = found[check].result
    assert result.status is Status.FAILED
    assert words in result.said
    assert result.fix


COUNTING = '''
"""Counts readers until a moment."""

from collections import Counter

import numpy as np

from recmesh.models.interactions import read_interactions
from recmesh.models.model import Capability, Description, Model, Retrieved, TrainedModel
from recmesh.storage.artifacts import ModelCard


class Counting(Model):
    def __init__(self, artifact):
        self._ids = artifact.strings["item_ids"]
        self._counts = dict(zip(self._ids, artifact.tensors["counts"].tolist()))
        self.description = Description(
            "counting", artifact.version, frozenset({Capability.RETRIEVE, Capability.SCORE}), "us"
        )

    def retrieve(self, context, limit):
        ids = sorted(self._ids, key=lambda i: -self._counts[i])[:limit]
        return Retrieved(ids, np.array([self._counts[i] for i in ids], np.float32))

    def score(self, context, item_ids):
        return np.array([self._counts.get(i, np.nan) for i in item_ids], np.float32)


def train(dataset, options):
    counts = Counter(read_interactions(dataset, UNTIL).items.tolist())
    ids = read_interactions(dataset, UNTIL).item_ids
    card = ModelCard("counting", "us", "counts", dataset.version, "", options.seed)
    values = np.array([counts[n] for n in range(len(ids))], np.float32)
    return TrainedModel(card, {"counts": values}, {"item_ids": ids})


def load(artifact):
    return Counting(artifact)
'''
DECLARED = 'name = "counting"\nowner = "us"\ncontact = "us"\nsummary = "counts"\n'


def counting_folder(parent: Path, name: str, until: str) -> Path:
    """A model's folder as its owner writes it; it learns until ``until``."""
    folder = parent / name
    folder.mkdir()
    (folder / "model.toml").write_text(DECLARED)
    (folder / "__init__.py").write_text(COUNTING.replace("UNTIL", until))
    return folder


def trained_home(parent: Path, folder: Path) -> Home:
    home = Home(tastes_home(parent))
    made = ModelFolder.of(str(folder)).train(Dataset.open(home.dataset), TrainOptions())
    ArtifactStore(home.artifacts).publish(made.card, made.tensors, made.strings)
    return home


async def folder_results(folder: Path, home: Home) -> dict[str, Judged]:
    async with opened(str(folder), home) as subject:
        return {one.check.id: one async for one in all_judged(subject)}


async def test_a_model_trained_on_test_data_is_found_out(tmp_path: Path) -> None:
    clean = counting_folder(tmp_path, "clean_counting", "options.until")
    leaky = counting_folder(tmp_path, "leaky_counting", "None")
    home = trained_home(tmp_path, clean)
    well = await folder_results(clean, home)
    assert {n: well[n].result.said for n in failed(well)} == {}
    assert well["leakage"].result.status is Status.PASSED
    assert well["skew"].result.status is Status.PASSED
    found = await folder_results(leaky, home)
    assert failed(found) == ["leakage"]
    assert "learned from events after the moment" in found["leakage"].result.said


async def test_a_model_that_serves_something_else_is_skewed(tmp_path: Path) -> None:
    folder = counting_folder(tmp_path, "swapped_counting", "options.until")
    home = trained_home(tmp_path, folder)
    async with opened(str(folder), home) as subject:
        other = subject.artifact.tensors["counts"] + 1
        subject.artifact = replace(subject.artifact, tensors={"counts": other})
        result = (await judged(subject, CHECKS["skew"])).result
    assert result.status is Status.FAILED
    assert "answers otherwise than its artifact" in result.said


async def test_a_server_that_dies_fails_the_check_and_serves_the_next_one(tmp_path: Path) -> None:
    folder = counting_folder(tmp_path, "dying_counting", "options.until")
    home = trained_home(tmp_path, folder)
    async with opened(str(folder), home) as subject:

        async def killing(given: Subject) -> Result:
            serving = given.process()
            serving.kill()
            serving.wait()
            await given.port.describe()
            raise AssertionError("nobody should have answered")

        killer = replace(CHECKS["contract"], run=killing)
        found = [one async for one in all_judged(subject, {"a": killer, "b": CHECKS["ordering"]})]
    assert [one.result.status for one in found] == [Status.FAILED, Status.PASSED]
    assert "UNAVAILABLE" in found[0].result.said


async def test_too_slow_at_the_declared_load_is_a_failure(tmp_path: Path) -> None:
    folder = counting_folder(tmp_path, "slow_counting", "options.until")
    code = folder / "__init__.py"
    slow = code.read_text().replace(
        "    def score(", "    def score(self, context, item_ids):\n"
        "        import time\n\n        time.sleep(0.02)\n"
        "        return self._score(context, item_ids)\n\n    def _score("
    )  # fmt: skip
    code.write_text(slow)
    (folder / "model.toml").write_text(DECLARED + "[service]\nbudget_ms = 5\nload_rps = 20\n")
    async with opened(str(folder), trained_home(tmp_path, folder)) as subject:
        # Whatever else this machine does.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latency, "TOO_MUCH", 1.0)
            result = (await judged(subject, CHECKS["latency"])).result
    assert result.status is Status.FAILED
    assert "too slow" in result.said
    assert result.limit == 5


def test_three_lines_are_a_test_suite(tmp_path: Path) -> None:
    folder = counting_folder(tmp_path, "suite_counting", "None")
    home = trained_home(tmp_path, folder)
    (tmp_path / "test_mine.py").write_text(
        "from recmesh.offline.model_checks.suite import suite\n\n"
        f"TestMine = suite({str(folder)!r}, skip=['latency', 'memory'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "RECMESH_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED test_mine.py::TestMine::test[leakage]" in done.stdout
    assert "PASSED test_mine.py::TestMine::test[contract]" in done.stdout
    assert "1 failed, 12 passed, 2 skipped" in done.stdout
