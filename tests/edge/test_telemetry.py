"""Traces, metrics, log and errors of a mesh behind a real Envoy, and what must not be in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.envoy_tracing import EdgeTracing
from recmesh.deployments.local_mesh import local_mesh
from recmesh.deployments.mesh_config import TelemetryTable
from recmesh.deployments.metrics_endpoint import metrics_offered
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.span_receiver import SentSpan, SpanReceiver, spans_received
from recmesh.deployments.telemetry import telemetry
from recmesh.models.model import Context, Float32
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.telemetry.mesh_measures import MEASURES
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.checked_models import CleanModel
from tests.small_world import ingested_home

USER, QUERY = "planted-doctor-4711", "planted query words"
TRACE = "ab" * 16
FORCED = (("traceparent", f"00-{TRACE}-{'cd' * 8}-01"),)
STAGES = ["admit", "retrieve", "filter", "score", "blend", "select", "answer"]
RECOMMEND = "recmesh.v1.RecommendationService/Recommend"
RETRIEVE = "recmesh.v1.ModelService/Retrieve"


class Defective(CleanModel):
    """Says whom it was asked about when it fails."""

    def score(self, context: Context, item_ids: list[str]) -> Float32:
        raise KeyError(context.user.user_id)


@dataclass
class Watched:
    stub: recommendation_pb2_grpc.RecommendationServiceAsyncStub
    receiver: SpanReceiver
    metrics_url: str

    def metrics(self) -> str:
        with urlopen(self.metrics_url) as answer:
            return str(answer.read().decode())


@pytest.fixture
async def mesh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Watched]:
    """The orchestrator and two models behind servers of their own, Envoy before them."""
    MEASURES.clear()
    before = structlog.get_config()
    home = ingested_home(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        kept = stack.enter_context(spans_received())
        table = TelemetryTable(otlp_endpoint=kept.endpoint, log_format="json")
        stack.callback(structlog.configure, **before)
        stack.enter_context(telemetry(table, "orchestrator", instance="r1"))
        port = stack.enter_context(metrics_offered(MEASURES, 0, {"application": "orchestrator"}))
        places = {}
        for name, model in (("cf", CleanModel()), ("behavioral", Defective())):
            server = model_server(ModelMethods(model))
            places[name] = {
                "addresses": [f"127.0.0.1:{await server.start('127.0.0.1:0')}"],
                "tls": None,
            }
            stack.push_async_callback(server.stop, 0.1)
        orchestrator = await stack.enter_async_context(
            local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0", external=places)
        )
        edge = EdgeSupervisor(
            EdgeConfig(address="127.0.0.1:0", tracing=EdgeTracing(kept.endpoint, 0.0)),
            [orchestrator.address],
        )
        await stack.enter_async_context(edge)
        await edge.wait_ready(20)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(edge.address))
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        yield Watched(stub, kept, f"http://127.0.0.1:{port}/metrics")


async def spans_named(mesh: Watched, names: set[str]) -> list[SentSpan]:
    """All spans, once those have come."""

    def complete(spans: list[SentSpan]) -> bool:
        return names <= {span.name for span in spans}

    assert await asyncio.to_thread(mesh.receiver.wait, complete, 15.0)
    return mesh.receiver.spans()


async def test_one_trace_leads_from_the_edge_to_the_models(mesh: Watched) -> None:
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id=USER, request_id="r-1")
    await mesh.stub.Recommend(request, timeout=10)
    await mesh.stub.Recommend(request, timeout=10, metadata=FORCED)
    found = await spans_named(mesh, {"ingress", RECOMMEND, RETRIEVE, *STAGES})
    assert {span.trace_id for span in found} == {TRACE}, "nobody asked for the first one's"
    assert {span.service for span in found} == {"recmesh-edge", "recmesh-orchestrator"}
    by_id = {span.span_id: span for span in found}

    def chain(span: SentSpan | None) -> list[str]:
        names = []
        while span is not None:
            names.append(span.name)
            span = by_id.get(span.parent_id)
        return names

    of = {span.name: span for span in found}
    way = [RECOMMEND, "ingress"]
    asked = sorted(chain(span) for span in found if span.name == RETRIEVE)
    assert asked == [
        [RETRIEVE, f"{model} Retrieve", "retrieve", *way] for model in ("behavioral", "cf")
    ]
    for stage in STAGES:
        assert chain(of[stage]) == [stage, *way]
    counts = {stage: of[stage].attributes.get("recmesh.candidates") for stage in STAGES}
    # One is for another country, one has expired.
    assert counts["retrieve"] == 40
    assert counts["filter"] == counts["score"] == counts["blend"] == 38
    served = of[RECOMMEND].attributes
    assert served["recmesh.request_id"] == "r-1"
    assert served["recmesh.surface"] == "feed"
    assert len(of["admit"].attributes["enduser.pseudo.id"]) == 16
    assert of["behavioral Score"].attributes["error.type"] == "error"
    assert not of[RECOMMEND].failed, "the page was answered"


async def test_metrics_tell_what_was_answered_and_what_was_lacking(mesh: Watched) -> None:
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id=USER)
    for _ in range(3):
        page = await mesh.stub.Recommend(request, timeout=10)
    unknown = recommendation_pb2.RecommendRequest(surface="doctors", user_id="u")
    with pytest.raises(grpc.aio.AioRpcError):
        await mesh.stub.Recommend(unknown, timeout=10)
    text = await asyncio.to_thread(mesh.metrics)
    values = {
        (sample.name, *sorted(sample.labels.items())[1:]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    method, feed = ("method", "Recommend"), ("surface", "feed")
    assert values["recmesh_requests_total", ("code", "OK"), method, feed] == 3
    # A surface that the policy has not is what a caller wrote.
    refused = ("code", "INVALID_ARGUMENT"), method, ("surface", "")
    assert values["recmesh_requests_total", *refused] == 1
    assert page.degraded
    assert values["recmesh_degraded_pages_total", feed] == 3
    for lack in page.degradations:
        source = ("source", lack.component)
        assert values["recmesh_degraded_responses_total", source, feed] == 3
    assert values["recmesh_request_duration_seconds_count", method, feed] == 3
    assert values["recmesh_candidates_sum", feed] == 3 * 40
    for stage in STAGES[1:]:
        assert values["recmesh_stage_duration_seconds_count", ("stage", stage), feed] == 3
    assert values["recmesh_source_calls_total", ("source", "behavioral"), ("state", "error")] == 3
    assert values["recmesh_model_replicas", ("model", "cf"), ("state", "asked")] == 1


async def test_nothing_that_is_told_names_a_doctor_or_what_they_asked(
    mesh: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = []
    for request in (
        recommendation_pb2.RecommendRequest(surface="feed", user_id=USER, request_id="r-7"),
        recommendation_pb2.RecommendRequest(surface="search", user_id=USER, query=QUERY),
        recommendation_pb2.RecommendRequest(surface="feed", user_id=USER, query=QUERY),
        recommendation_pb2.RecommendRequest(surface="feed", user_id=USER, page_token=USER),
        recommendation_pb2.RecommendRequest(surface=USER, user_id=USER * 100, query=QUERY),
        recommendation_pb2.RecommendRequest(surface="feed", user_id=USER, page_size=-1),
    ):
        try:
            await mesh.stub.Recommend(request, timeout=10, metadata=FORCED)
        except grpc.aio.AioRpcError as error:
            errors.append(f"{error.details()} {error.trailing_metadata()}")
    await spans_named(mesh, {"ingress", "answer"})
    # What waits goes within a second.
    await asyncio.sleep(1.2)
    log = capsys.readouterr().out
    told = {
        "spans": mesh.receiver.text(),
        "metrics": await asyncio.to_thread(mesh.metrics),
        "log": log,
        "errors": "\n".join(errors),
    }
    assert len(errors) == 4
    for where, text in told.items():
        assert text, where
        for planted in (USER, QUERY):
            assert planted not in text, where
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (defect, *_) = [line for line in lines if "KeyError" in line.get("exception", "")]
    assert defect["request_id"] == "r-7"
    assert defect["trace_id"] == TRACE
