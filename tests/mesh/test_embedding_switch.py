"""Another embedding version, of another length, goes live and comes back under load."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from recmesh.v1 import catalog_pb2
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import CALLERS, load
from tests.mesh.test_catalog import Caller, eventually

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]


async def test_switch_and_rollback_cost_no_page_and_mix_none(mesh: RunningMesh) -> None:
    async def recmesh(*words: str) -> dict[str, Any]:
        done = await asyncio.to_thread(mesh.recmesh, *words, "--json")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    caller = Caller(mesh.address)

    async def found() -> None:
        def first() -> bool:
            return caller.shown("search", "Salamander limbs")[:1] == ["salamander"]

        await asyncio.to_thread(eventually, first)

    async with load(mesh.address) as seen:
        await seen.until(lambda answer: bool(answer.embedding))
        full = seen.answers[-1].embedding
        built = await recmesh("embed", "build", "--dim", "16", "--no-validate")
        short = built["version"]
        assert short == f"{full}-d16"
        await recmesh("embed", "verify", short)
        assert {answer.embedding for answer in seen.answers} <= {full, ""}
        await recmesh("embed", "switch", short)
        await seen.until(lambda answer: answer.embedding == short, times=5 * CALLERS)
        assert await asyncio.to_thread(caller.upsert, "salamander", "Salamander limbs")
        await found()
        assert (await recmesh("embed", "rollback"))["version"] == full
        await seen.until(lambda answer: answer.embedding == full, times=5 * CALLERS)
        await found()
    caller.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=["salamander"]))

    assert seen.failures == []
    assert [answer for answer in seen.answers if answer.failed] == []
    for number in range(CALLERS):
        versions = [a.embedding for a in seen.answers if a.caller == number and a.embedding]
        changes = [pair for pair in itertools.pairwise(versions) if pair[0] != pair[1]]
        assert changes == [(full, short), (short, full)], "one orchestrator, there and back once"
