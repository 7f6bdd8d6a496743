"""The commands on a running mesh, as people and scripts use them."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from recmesh.cli.sample_slates import print_sample_slates
from recmesh.deployments.edge_channel import edge_of
from recmesh.models.registry import MODELS
from recmesh.orchestrator.policy import Policy
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from tests.mesh.conftest import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]


def test_status_tells_every_application(mesh: RunningMesh) -> None:
    states = mesh.status()
    assert set(states) == {"orchestrator", "catalog", *MODELS}
    store = ArtifactStore(mesh.home.artifacts)
    for name in MODELS:
        assert states[name]["state"] == "RUNNING"
        (replica,) = states[name]["replicas"]
        assert replica["version"] == store.live_version(name)


def test_nothing_listens_where_other_machines_reach_it(mesh: RunningMesh) -> None:
    listening = mesh.listening()
    assert {"gcs_server", "raylet", "milvus", "envoy"} < set(listening)
    assert len([name for name in listening if name.startswith("ray::ServeReplica")]) > 1
    assert set().union(*listening.values()) == {"127.0.0.1"}, listening


def test_call_answers_for_scripts(mesh: RunningMesh) -> None:
    request = json.dumps({"surface": "search", "user_id": "reader", "query": "Title 17"})
    page = json.loads(mesh.recmesh("call", "-d", request, "--address", mesh.address).stdout)
    assert page["recommendations"][0]["item_id"] == "i17"
    assert "degraded" not in page


def test_every_surface_has_a_page_to_show(mesh: RunningMesh) -> None:
    printed = io.StringIO()
    print_sample_slates(
        Console(file=printed, width=120),
        edge_of(mesh.home),
        Dataset.open(mesh.home.dataset),
        Policy.load().surfaces,
    )
    for surface in Policy.load().surfaces:
        assert f"{surface} " in printed.getvalue()
    assert "degraded" not in printed.getvalue()


def test_up_again_changes_nothing(mesh: RunningMesh) -> None:
    before = {name: state["replicas"][0]["replica_id"] for name, state in mesh.status().items()}
    assert json.loads(mesh.recmesh("up", "--json").stdout)["failed"] == []
    after = {name: state["replicas"][0]["replica_id"] for name, state in mesh.status().items()}
    assert after == before


def test_a_model_that_is_not_configured_is_refused(mesh: RunningMesh) -> None:
    refused = mesh.recmesh("up", "dreams", check=False)
    assert refused.returncode == 1
    assert "has no model dreams" in refused.stderr
    assert "dreams was not deployed" in mesh.recmesh("down", "dreams").stdout
