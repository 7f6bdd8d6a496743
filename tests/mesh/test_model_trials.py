"""A version is tried, stopped, tried again and promoted while callers go on; nobody fails."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from typing import Any

import pytest

from recmesh.models.model import TrainOptions
from recmesh.models.registry import trainer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import Answer, load

pytestmark = [pytest.mark.mesh, pytest.mark.milvus, pytest.mark.slow]

MODEL = "cf"
USERS = ["reader", *(f"d{number}" for number in range(30))]
KNOTS = {"raw_scores": [0.0, 1.0], "probabilities": [0.1, 0.9]}


def another_version(home: Home) -> str:
    """Trained and calibrated, not live."""
    trained = trainer(MODEL)(Dataset.open(home.dataset), TrainOptions(seed=11))
    card = replace(trained.card, calibration=KNOTS)
    return ArtifactStore(home.artifacts).publish(card, trained.tensors, trained.strings, live=False)


async def test_shadow_canary_rollback_and_promotion(mesh: RunningMesh) -> None:
    async def model(*arguments: str, check: bool = True) -> dict[str, Any]:
        done = await asyncio.to_thread(mesh.recmesh, "model", *arguments, "--json", check=check)
        told: dict[str, Any] = json.loads(done.stdout)
        return told | {"status": done.returncode}

    store = ArtifactStore(mesh.home.artifacts)
    old = await asyncio.to_thread(store.live_version, MODEL)
    new = await asyncio.to_thread(another_version, mesh.home)

    def by_new(answer: Answer) -> bool:
        return answer.versions.get(MODEL) == new

    async with load(mesh.address, users=USERS) as seen:
        await seen.until_whole()

        # Mirrored to, and on no page.
        shadow = await model("shadow", f"{MODEL}@{new}", "--pages", "20")
        assert shadow["mirrored_pages"] >= 20
        assert shadow["live_version"] == old
        assert shadow["calls"]["failures"] == 0
        assert not [answer for answer in seen.answers if by_new(answer)]

        # On the pages of some, whole.
        canary = ("canary", f"{MODEL}@{new}", "--percent", "50", "--most", "50")
        first = (await model(*canary))["experiment"]
        await seen.until(by_new)
        assert not [answer for answer in seen.answers if answer.missing]

        # Hung: stopped by itself, and cleaned up.
        (replica,) = mesh.processes(f"ServeReplica:model-{MODEL}@")
        replica.send_signal(signal.SIGSTOP)
        await seen.until(lambda answer: not by_new(answer) and not answer.missing, times=60)
        replica.send_signal(signal.SIGCONT)
        watched = await model("watch", MODEL, check=False)
        assert watched["status"] == 3
        assert watched["rolled_back"]
        assert "calls failed" in watched["ended"]
        assert set(mesh.status()) & {f"{MODEL}@{new}"} == set()

        # Tried again, then everybody's.
        second = (await model(*canary))["experiment"]
        assert second == f"{first}-2"
        await seen.until(by_new)
        promoted = await model("promote", MODEL)
        assert (promoted["version"], promoted["before"]) == (new, old)
        await seen.until(by_new, times=len(USERS) * 3)
        assert (await model("abort", MODEL))["ended"] == []
    assert not seen.failures
    assert store.live_version(MODEL) == new
