"""Traces and metrics of a whole mesh, read as people and Prometheus read them."""

from __future__ import annotations

import json

import pytest

from recmesh.models.registry import MODELS
from tests.mesh.conftest import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]


def test_a_trace_leads_through_every_part(mesh: RunningMesh) -> None:
    spans = json.loads(mesh.recmesh("trace", "reader", "--json").stdout)
    services = {span["service"] for span in spans}
    replicas = {f"recmesh-{name}" for name in MODELS}
    assert services == {"caller", "recmesh-edge", "recmesh-orchestrator", *replicas}
    known = {span["span_id"] for span in spans}
    assert [span["name"] for span in spans if span["parent_id"] not in known] == ["Recommend feed"]
    assert any(span["attributes"].get("db.system.name") == "milvus" for span in spans)


@pytest.mark.slow
def test_top_tells_what_the_metrics_of_all_replicas_say(mesh: RunningMesh) -> None:
    for _ in range(3):
        mesh.recmesh("call", "reader", "--address", mesh.address)
    told = json.loads(mesh.recmesh("top", "--once", "--json").stdout)
    assert {surface["surface"] for surface in told["surfaces"]} >= {"feed"}
    asked = {source["source"]: source for source in told["sources"]}
    for name in MODELS:
        assert asked[name]["replicas"] == 1
    assert len(told["embedding"]) == 1
    assert {state["name"] for state in told["applications"]} == {
        "orchestrator",
        "catalog",
        *MODELS,
    }
