"""Models that could not share a process make one slate: other requirements, another language."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import grpc
import grpc.aio
import psutil
import pytest
import tomli_w

from recmesh.deployments.mesh_config import DEFAULT_CONFIG
from recmesh.models.registry import MODELS
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc
from tests.mesh.conftest import RunningMesh
from tests.mesh.load import load
from tests.node_model import NAME as IN_NODE
from tests.node_model import installed_node, node_model
from tests.small_world import ingested_home, train

pytestmark = [pytest.mark.mesh, pytest.mark.milvus, pytest.mark.slow]

UNLIKE, ALIKE = "network", "cf"
IDNA = "2.10"
"""Ours is newer, and what needs ours refuses this one."""


@pytest.fixture
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh whose feed asks a model in Node.js as well."""
    node = installed_node()
    running = RunningMesh(ingested_home(tmp_path_factory.mktemp("unlike")))
    policy = tomllib.loads(DEFAULT_POLICY.read_text())
    policy["defaults"] |= {"source_timeout_s": 2.0, "deadline_s": 5.0}
    feed = policy["surfaces"]["feed"]
    feed["sources"] = [*dict.fromkeys([*feed["sources"], UNLIKE, IN_NODE])]
    feed["model_weights"] |= {UNLIKE: 0.5, IN_NODE: 0.5}
    running.policy.write_text(tomli_w.dumps(policy))
    for name in MODELS:
        train(running.home, name)
    running.recmesh("index")
    with node_model(node, running.home.dataset) as served:
        config = tomllib.loads(DEFAULT_CONFIG.read_text())
        config["models"][IN_NODE] = {"placement": "external", "addresses": [served["address"]]}
        file = running.home.root / "mesh.toml"
        file.write_text(tomli_w.dumps(config))
        running.recmesh("up", "--detach", "--config", str(file))
        try:
            yield running
        finally:
            running.recmesh("down")


async def test_contradicting_requirements_and_another_language_in_one_slate(
    unlike: RunningMesh,
) -> None:
    needs = unlike.home.root / "needs.toml"
    needs.write_text(f'name = "{UNLIKE}"\n[replicas]\npip = ["idna=={IDNA}"]\n')
    async with load(unlike.address) as seen:
        await seen.until_whole()
        await asyncio.to_thread(unlike.recmesh, "model", "deploy", str(needs))
        await seen.until_whole()
    assert not seen.failures
    assert idna(unlike, UNLIKE) == IDNA
    assert idna(unlike, ALIKE) != IDNA
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id="reader", explain=True)
    async with grpc.aio.insecure_channel(unlike.address) as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        page = await stub.Recommend(request, timeout=10)
    states = {source.name: source.state for source in page.sources}
    assert {states[name] for name in (UNLIKE, ALIKE, IN_NODE)} == {common_pb2.SOURCE_STATE_OK}
    by = {name for slot in page.recommendations for name in slot.sources}
    assert {UNLIKE, ALIKE, IN_NODE} <= by


def idna(mesh: RunningMesh, name: str) -> str:
    """Version in the environment of a model's replica."""
    (replica, *_) = mesh.processes(f"ServeReplica:model-{name}:")
    environment = psutil.Process(replica.pid).environ().get("VIRTUAL_ENV")
    python = f"{environment}/bin/python" if environment else sys.executable
    asked = [python, "-c", "import importlib.metadata as m; print(m.version('idna'))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
