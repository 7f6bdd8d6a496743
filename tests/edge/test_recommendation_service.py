"""The service as callers meet it: over a real gRPC connection, with input they get wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_services import edge_server
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.v1 import (
    recommendation_pb2,
    recommendation_pb2_grpc,
)
from tests.small_world import FunctionModel, dataset

Channel = grpc.aio.Channel
SERVICE = "recmesh.v1.RecommendationService"


@asynccontextmanager
async def serving(folder: Path, n_items: int = 40) -> AsyncIterator[str]:
    """Address of an orchestrator over a small data set."""
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: int(item[1:]) / 10, n_items)})
    await models.refresh()
    mesh = Mesh(models, None, Snapshot.of(dataset(folder, n_items), Policy.load(), None))
    server = edge_server(mesh)
    port = await server.start("127.0.0.1:0")
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture(params=["replica", "envoy"])
async def channel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Channel]:
    """To the orchestrator directly, and through the edge that callers use."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(tmp_path))
        if request.param == "envoy":
            edge = EdgeSupervisor(EdgeConfig(address="127.0.0.1:0"), [address])
            await stack.enter_async_context(edge)
            await edge.wait_ready(10)
            address = edge.address
        yield await stack.enter_async_context(grpc.aio.insecure_channel(address))


def feed(**fields: object) -> recommendation_pb2.RecommendRequest:
    defaults: dict[str, object] = {"surface": "feed", "user_id": "reader"}
    return recommendation_pb2.RecommendRequest(**(defaults | fields))


async def refusal(channel: Channel, request: object, **options: object) -> grpc.aio.AioRpcError:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Recommend(request, **options)
    assert "Traceback" not in (raised.value.details() or "")
    return raised.value


async def test_a_page_comes_over_the_wire(channel: Channel) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    response = await stub.Recommend(feed(request_id="r"), timeout=5)
    assert response.request_id == "r"
    assert len(response.recommendations) == 10
    assert response.versions.models["cf"] == "1"
    assert response.attribution_token


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"surface": "billboard"}, "surface"),
        ({"surface": ""}, "surface"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 10_000}, "user_id"),
        ({"page_size": -1}, "page_size"),
        ({"page_size": 10**9}, "page_size"),
        ({"objective_preferences": {"relevance": float("nan")}}, "objective_preferences"),
        ({"objective_preferences": {"relevance": float("inf")}}, "objective_preferences"),
        ({"candidate_item_ids": ["i1", "i1"]}, "candidate_item_ids"),
        ({"page_token": "!!!"}, "page_token"),
        ({"query": "hello"}, "query"),
    ],
)
async def test_bad_input_is_refused_with_the_field(
    channel: Channel, fields: dict[str, object], field: str
) -> None:
    error = await refusal(channel, feed(**fields))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(field)
    blob = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(blob)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["field"].startswith(field)


async def test_page_size_zero_means_the_default(channel: Channel) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    assert len((await stub.Recommend(feed(page_size=0))).recommendations) == 10


async def test_a_60_mb_message_is_refused(channel: Channel) -> None:
    request = feed(exclude_item_ids=["x" * 60_000_000])
    assert (await refusal(channel, request)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_1_ms_deadline_is_said_to_be_too_short(channel: Channel) -> None:
    error = await refusal(channel, feed(), timeout=0.001)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_unknown_doctor_gets_a_page(channel: Channel) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    page = await stub.Recommend(feed(user_id="never-heard-of"), timeout=5)
    assert len(page.recommendations) == 10


async def test_an_empty_catalog_gives_an_empty_page(tmp_path: Path) -> None:
    async with serving(tmp_path, n_items=0) as address, grpc.aio.insecure_channel(address) as to:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(to)
        page = await stub.Recommend(feed(), timeout=5)
        assert not page.recommendations
        assert not page.next_page_token


async def test_unknown_fields_are_ignored(channel: Channel) -> None:
    call = channel.unary_unary(
        f"/{SERVICE}/Recommend",
        response_deserializer=recommendation_pb2.RecommendResponse.FromString,
    )
    # Field 999, a string, as a newer client might send.
    response = await call(feed().SerializeToString() + b"\xba\x3e\x02hi")
    assert len(response.recommendations) == 10


async def test_invalid_utf8_does_not_crash_the_server(channel: Channel) -> None:
    call = channel.unary_unary(f"/{SERVICE}/Recommend")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"\x12\x02\xff\xfe")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    assert len((await stub.Recommend(feed())).recommendations) == 10


async def test_a_mesh_that_keeps_no_decisions_says_so(channel: Channel) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Explain(recommendation_pb2.ExplainRequest(request_id="r"))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "keeps no decisions" in (raised.value.details() or "")


async def test_health_and_reflection_answer(channel: Channel) -> None:
    health = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=SERVICE)
    )
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    async for response in stream:
        assert SERVICE in [s.name for s in response.list_services_response.service]
        break
