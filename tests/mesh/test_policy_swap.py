"""Another policy goes live and comes back under load."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import CALLERS, load

pytestmark = pytest.mark.mesh


async def test_promotion_and_rollback_cost_no_page_and_mix_none(mesh: RunningMesh) -> None:
    text = mesh.policy.read_text().replace('name = "default"', 'name = "other"')
    other = PolicyStore(mesh.home.policies).publish(text, {"surface": "feed"})
    own = Policy.load(mesh.policy).version
    async with load(mesh.address) as seen:
        await seen.until(lambda answer: answer.policy == own)
        await asyncio.to_thread(mesh.recmesh, "policy", "promote", other)
        await seen.until(lambda answer: answer.policy == other, times=5 * CALLERS)
        await asyncio.to_thread(mesh.recmesh, "policy", "rollback")
        await seen.until(lambda answer: answer.policy == own, times=5 * CALLERS)
    assert seen.failures == []
    for number in range(CALLERS):
        versions = [a.policy for a in seen.answers if a.caller == number]
        changes = [pair for pair in itertools.pairwise(versions) if pair[0] != pair[1]]
        assert changes == [(own, other), (other, own)], "one orchestrator, there and back once"
