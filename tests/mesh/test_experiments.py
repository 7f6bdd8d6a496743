"""An experiment starts and is stopped under load, at every orchestrator."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from recmesh.orchestrator.policy import Policy
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import CALLERS, load

pytestmark = pytest.mark.mesh

EXPERIMENT = """
name = "fresh-feed"
hypothesis = "Doctors click more where what is new comes first."
surfaces = ["feed"]
days = 1
[[arms]]
name = "fresh"
[arms.surfaces.feed]
objective_weights = { freshness = 1.0 }
[[arms]]
name = "novel"
[arms.surfaces.feed]
objective_weights = { novelty = 1.0 }
[plan]
planned_units = 2
[[plan.metrics]]
name = "clicks"
numerator = "clicks"
"""


async def test_a_start_and_a_stop_cost_no_page_and_mix_none(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT)
    own = Policy.load(mesh.policy).version
    created = await asyncio.to_thread(mesh.recmesh, "experiment", "create", str(file), "--json")
    arms = {arm["policy"] for arm in json.loads(created.stdout)["experiment"]["arms"]}
    async with load(mesh.address) as seen:
        await seen.until(lambda answer: answer.policy == own)
        await asyncio.to_thread(mesh.recmesh, "experiment", "start", "fresh-feed")
        await seen.until(lambda answer: answer.policy in arms, times=5 * CALLERS)
        await asyncio.to_thread(mesh.recmesh, "experiment", "stop", "fresh-feed")
        await seen.until(lambda answer: answer.policy == own, times=5 * CALLERS)
    assert seen.failures == []
    assert len({answer.policy for answer in seen.answers} & arms) == 1, "one doctor, one arm"
    for number in range(CALLERS):
        policies = [answer.policy for answer in seen.answers if answer.caller == number]
        changes = [pair for pair in itertools.pairwise(policies) if pair[0] != pair[1]]
        assert len(changes) == 2, "one orchestrator, there and back once"
