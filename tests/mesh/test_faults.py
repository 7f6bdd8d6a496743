"""Killed parts cost no request: pages say what they lack, and the mesh heals by itself."""

from __future__ import annotations

import json
import time

import psutil
import pytest

from tests.mesh.conftest import RunningMesh
from tests.mesh.load import Load, load

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]

SEARCHING = {"nlp", "vector-index"}
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.4s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def replica(mesh: RunningMesh, model: str) -> psutil.Process:
    (process,) = mesh.processes(f"ray::ServeReplica:model-{model}:")
    return process


def nothing_failed(seen: Load) -> None:
    assert not seen.failures, seen.failures[:3]


@pytest.mark.parametrize("models", [("cf",), ("cf", "behavioral", "nlp")])
async def test_killed_models_are_named_and_come_back(
    mesh: RunningMesh, models: tuple[str, ...]
) -> None:
    async with load(mesh.address) as seen:
        await seen.until_whole()
        for model in models:
            replica(mesh, model).kill()
        lost = set(models)
        await seen.until(lambda answer: lost <= answer.missing)
        assert all(answer.missing <= lost | SEARCHING for answer in seen.answers)
        await seen.until_whole()
    nothing_failed(seen)


async def test_killed_milvus_is_named_and_comes_back(mesh: RunningMesh) -> None:
    async with load(mesh.address) as seen:
        await seen.until_whole()
        (milvus,) = mesh.processes("milvus.db")
        milvus.kill()
        await seen.until(lambda answer: answer.missing == {"vector-index"})
        await seen.until_whole()
    nothing_failed(seen)


async def test_a_killed_serve_controller_is_not_noticed(mesh: RunningMesh) -> None:
    assert not mesh.processes("ProxyActor"), "no proxy of Serve's may stand in the data plane"
    async with load(mesh.address) as seen:
        await seen.until_whole()
        (controller,) = mesh.processes("ray::ServeController")
        controller.kill()
        controller.wait(10)
        await seen.until(lambda _: len(mesh.processes("ray::ServeController")) == 1)
        await seen.until_whole()
        # The new controller heals as the old one did.
        replica(mesh, "cf").kill()
        await seen.until(lambda answer: "cf" in answer.missing)
        await seen.until_whole()
    nothing_failed(seen)
    assert all(answer.missing <= {"cf"} for answer in seen.answers)


async def test_a_killed_envoy_costs_a_retrying_caller_at_most_a_second(mesh: RunningMesh) -> None:
    options = [("grpc.service_config", RETRIES)]
    async with load(mesh.address, options=options) as seen:
        await seen.until_whole()
        (envoy,) = mesh.processes("bootstrap.json")
        killed_s = time.monotonic()
        envoy.kill()
        await seen.until_whole()
    assert all(answer.ended_s - killed_s < 1.0 for answer in seen.failures), seen.failures


async def test_a_killed_orchestrator_comes_back(mesh: RunningMesh) -> None:
    async with load(mesh.address) as seen:
        await seen.until_whole()
        (orchestrator,) = mesh.processes("ray::ServeReplica:orchestrator:")
        orchestrator.kill()
        await seen.until(lambda answer: answer.failure is not None)
        await seen.until_whole()
