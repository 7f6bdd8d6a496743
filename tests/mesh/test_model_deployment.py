"""A model's owner deploys, scales, goes back and removes; and dies half-way. Nobody fails."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from recmesh.models.model import TrainOptions
from recmesh.models.registry import trainer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import Load, load

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]

MODEL, OTHER = "cf", "network"


def candidate(mesh: RunningMesh, name: str = MODEL, seed: int = 7) -> str:
    """A version that is not live."""
    trained = trainer(name)(Dataset.open(mesh.home.dataset), TrainOptions(seed=seed))
    return ArtifactStore(mesh.home.artifacts).publish(
        trained.card, trained.tensors, trained.strings, live=False
    )


def live(mesh: RunningMesh, name: str = MODEL) -> str:
    return ArtifactStore(mesh.home.artifacts).live_version(name)


def model(mesh: RunningMesh, *arguments: str) -> Any:
    done = mesh.recmesh("model", *arguments, "--json")
    return json.loads(done.stdout)


def status(mesh: RunningMesh, name: str = MODEL) -> dict[str, Any]:
    done = mesh.recmesh("model", "status", name, "--json", check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def nobody_noticed(seen: Load) -> None:
    """No request failed, no model was gone or answered wrongly; one may be late."""
    assert seen.answers
    assert Counter(answer.failure.name for answer in seen.answers if answer.failure) == {}
    assert Counter(name for answer in seen.answers for name in answer.failed) == {}
    assert Counter(name for answer in seen.answers for name in answer.unreachable) == {}


@pytest.fixture
def broken(mesh: RunningMesh) -> Iterator[str]:
    """A version whose tensors cannot be read."""
    folder = mesh.home.artifacts / MODEL
    version = "badbadbadbadbad0"
    shutil.copytree(folder / live(mesh), folder / version)
    (folder / version / "model.safetensors").write_bytes(b"nothing")
    yield version
    shutil.rmtree(folder / version)


async def test_two_owners_deploy_at_once_and_one_scales_goes_back_and_removes(
    mesh: RunningMesh,
) -> None:
    old, new, others = live(mesh), candidate(mesh), candidate(mesh, OTHER, seed=11)
    assert old != new
    async with load(mesh.address) as seen:
        await seen.until_whole()

        async def deploys(name: str, version: str) -> dict[str, Any]:
            asked = ("deploy", name, "--version", version, "--by", f"owner of {name}")
            made: dict[str, Any] = await asyncio.to_thread(model, mesh, *asked)
            return made

        made, _ = await asyncio.gather(deploys(MODEL, new), deploys(OTHER, others))
        assert (made["version"], made["before"], made["serves"]) == (new, old, True)
        for name, version in ((MODEL, new), (OTHER, others)):
            told = await asyncio.to_thread(status, mesh, name)
            assert (told["serves"], told["stages"]["live"]) == ([version], version)
            assert told["deployed_by"] == f"owner of {name}"

        made = await asyncio.to_thread(model, mesh, "scale", MODEL, "--min", "2", "--max", "2")
        assert made["replicas"] == 2

        made = await asyncio.to_thread(model, mesh, "rollback", MODEL)
        assert made["version"] == old
        told = await asyncio.to_thread(status, mesh)
        assert (told["serves"], told["stages"]["live"]) == ([old], old)
        logs = await asyncio.to_thread(mesh.recmesh, "model", "logs", MODEL, "-n", "0")
        assert "Finished initializing replica" in logs.stdout
        await asyncio.sleep(1.0)
        # Up to here nobody can tell that anything happened.
        nobody_noticed(seen)

        refused = await asyncio.to_thread(
            lambda: mesh.recmesh("model", "remove", MODEL, check=False)
        )
        assert "--yes" in refused.stderr
        await asyncio.to_thread(model, mesh, "remove", MODEL, "--yes")
        await seen.until(lambda answer: answer.missing == {MODEL}, times=5)
        await asyncio.to_thread(model, mesh, "deploy", MODEL)
        await seen.until_whole()
    assert not seen.failures


@pytest.mark.slow
async def test_a_broken_version_is_reported_and_the_old_one_serves_on(
    mesh: RunningMesh, broken: str
) -> None:
    before = live(mesh)
    async with load(mesh.address) as seen:
        await seen.until_whole()
        done = await asyncio.to_thread(
            lambda: mesh.recmesh("model", "deploy", MODEL, "--version", broken, check=False)
        )
        assert done.returncode == 1
        assert f"{MODEL}@{broken} does not come up" in done.stderr
        assert "is damaged" in done.stderr
        told = await asyncio.to_thread(status, mesh)
        assert (told["state"], told["serves"], live(mesh)) == ("RUNNING", [before], before)
        nobody_noticed(seen)
    history = model(mesh, "history", MODEL)
    assert (history[-1]["did"], history[-1]["version"]) == ("failed to deploy", broken)


@pytest.mark.slow
async def test_what_cannot_be_rolled_out_is_put_back(mesh: RunningMesh) -> None:
    """A version that came up before is not tried, so this one breaks in the rollout itself."""
    first, second = live(mesh), candidate(mesh, seed=13)
    await asyncio.to_thread(model, mesh, "deploy", MODEL, "--version", second)
    tensors = mesh.home.artifacts / MODEL / first / "model.safetensors"
    content = tensors.read_bytes()
    async with load(mesh.address) as seen:
        await seen.until_whole()
        tensors.write_bytes(b"nothing")
        try:
            done = await asyncio.to_thread(
                lambda: mesh.recmesh("model", "rollback", MODEL, check=False)
            )
        finally:
            tensors.write_bytes(content)
        assert done.returncode == 1
        assert "is damaged" in done.stderr
        # Serve wants the old one again: it says so, and starts no other.
        told = await asyncio.to_thread(status, mesh)
        assert (told["state"], told["serves"], live(mesh)) == ("RUNNING", [second], second)
        nobody_noticed(seen)


def _deploys(mesh: RunningMesh, version: str, until: str) -> subprocess.Popen[str]:
    """A deployment that has come so far as to say ``until``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recmesh.cli.main", "model", "deploy", MODEL, "--version", version],
        env=mesh.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if until in line:
            return process
    raise AssertionError(f"it never said {until!r}: {said}")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["trying", "trial runs", "rolling out"])
async def test_killed_at_a_step_one_version_serves_and_deploying_again_works(
    mesh: RunningMesh, step: str
) -> None:
    old, new = live(mesh), candidate(mesh, seed=17 + len(step))
    async with load(mesh.address) as seen:
        await seen.until_whole()
        process = await asyncio.to_thread(_deploys, mesh, new, step)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        assert live(mesh) == old
        await asyncio.to_thread(model, mesh, "deploy", MODEL, "--version", new)
        told = await asyncio.to_thread(status, mesh)
        assert (told["state"], told["serves"], live(mesh)) == ("RUNNING", [new], new)
        assert not told["beside"]
        nobody_noticed(seen)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["trying", "rolling out"])
async def test_interrupted_it_leaves_what_was(mesh: RunningMesh, step: str) -> None:
    old, new = live(mesh), candidate(mesh, seed=31 + len(step))
    async with load(mesh.address) as seen:
        await seen.until_whole()
        process = await asyncio.to_thread(_deploys, mesh, new, step)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 130
        told = await asyncio.to_thread(status, mesh)
        assert (told["state"], told["serves"], live(mesh)) == ("RUNNING", [old], old)
        assert not told["beside"]
        nobody_noticed(seen)
