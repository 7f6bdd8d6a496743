"""A model's owner redeploys, scales and removes it while callers go on; nobody fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mesh.conftest import RunningMesh
from tests.mesh.load import RECOVERY_S, load
from tests.small_world import train

pytestmark = [pytest.mark.mesh, pytest.mark.milvus, pytest.mark.slow]

MODEL = "cf"
THREE = """
[models.cf]
min_replicas = 3
max_replicas = 3
num_cpus = 0.2
"""


def replicas(mesh: RunningMesh) -> tuple[int, set[str]]:
    state = mesh.status()[MODEL]
    return len(state["replicas"]), {replica["version"] for replica in state["replicas"]}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.2)


async def test_redeploy_scale_remove_and_return(mesh: RunningMesh, tmp_path: Path) -> None:
    def up(*arguments: str) -> None:
        mesh.recmesh("up", MODEL, *arguments)

    _, old = await asyncio.to_thread(replicas, mesh)
    async with load(mesh.address) as seen:
        await seen.until_whole()

        version = await asyncio.to_thread(train, mesh.home, MODEL, seed=2)
        assert {version} != old
        await asyncio.to_thread(up)
        await until(lambda: replicas(mesh)[1] == {version})

        (tmp_path / "mesh.toml").write_text(THREE)
        await asyncio.to_thread(up, "--config", str(tmp_path / "mesh.toml"))
        await until(lambda: replicas(mesh)[0] == 3)
        # Up to here nobody can tell that anything happened.
        assert not seen.failures
        assert not [answer for answer in seen.answers if answer.missing]

        await asyncio.to_thread(mesh.recmesh, "down", MODEL)
        await seen.until(lambda answer: answer.missing == {MODEL}, times=5)
        await asyncio.to_thread(up)
        await seen.until_whole()
    assert not seen.failures
