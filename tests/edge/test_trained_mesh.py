"""Train, index, serve, call: the main job on a small data set, with real parts."""

from __future__ import annotations

import asyncio
import json
import time

import grpc
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.local_mesh import local_mesh
from recmesh.deployments.span_export import spans_exported
from recmesh.deployments.span_receiver import spans_received
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    recommendation_pb2,
    recommendation_pb2_grpc,
)
from tests.small_world import ingested_home, train

TRAINED = ("cf", "nlp", "behavioral")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = ingested_home(tmp_path_factory.mktemp("home"))
    for name in TRAINED:
        train(made, name)
    return made


@pytest.mark.milvus
async def test_search_and_feed_answer_with_models_and_milvus(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    indexed = await asyncio.to_thread(CliRunner().invoke, app, ["index"])
    assert indexed.exit_code == 0, indexed.output
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        assert set(mesh.models) == set(TRAINED)
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        request = recommendation_pb2.RecommendRequest(
            surface="search", user_id="reader", query="Title 17", explain=True
        )
        with spans_received() as spans, spans_exported(spans.endpoint, 1.0, "mesh", "1", "1"):
            found = await stub.Recommend(request, timeout=10)
        by_operation = {s.attributes.get("db.operation.name"): s for s in spans.spans()}
        searched = by_operation["search"]
        assert searched.attributes["db.system.name"] == "milvus"
        (asked,) = (s for s in spans.spans() if s.span_id == searched.parent_id)
        assert asked.name == "vector-index"
        assert {"nlp Embed", "nlp Retrieve"} <= {s.name for s in spans.spans()}
        assert found.recommendations[0].item_id == "i17"
        assert "vector-index" in found.recommendations[0].sources
        assert found.versions.embedding == mesh.embedding
        feed = await stub.Recommend(
            recommendation_pb2.RecommendRequest(surface="feed", user_id="reader"), timeout=10
        )
        states = {s.name: s.state for s in feed.sources}
        for component in ("cf", "nlp", "behavioral", "vector-index"):
            assert states[component] == common_pb2.SOURCE_STATE_OK, feed.degradations
        assert feed.degraded, "network is not trained here"


@pytest.mark.milvus
async def test_a_written_item_is_found_by_its_words_and_a_deleted_one_is_not(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    indexed = await asyncio.to_thread(CliRunner().invoke, app, ["index"])
    assert indexed.exit_code == 0, indexed.output
    item = catalog_pb2.Item(item_id="zebra", title="Zebrafish hearts", content_type="article")
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        recommendations = recommendation_pb2_grpc.RecommendationServiceStub(channel)

        async def found() -> list[str]:
            page = await recommendations.Recommend(
                recommendation_pb2.RecommendRequest(
                    surface="search", user_id="reader", query="Zebrafish hearts"
                ),
                timeout=10,
            )
            return [shown.item_id for shown in page.recommendations]

        async def eventually(there: bool) -> None:
            end = time.monotonic() + 30
            while (await found())[:1] != ["zebra"] if there else "zebra" in await found():
                assert time.monotonic() < end
                await asyncio.sleep(0.05)

        await catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[item]))
        await eventually(True)
        await catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=["zebra"]))
        await eventually(False)
        await catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[item]))
        await eventually(True)
    again = await asyncio.to_thread(CliRunner().invoke, app, ["index", "--json"])
    assert json.loads(again.output)["changed"] is False, "the writer kept the collection current"
    await asyncio.to_thread(train, home, "nlp", 2)
    anew = await asyncio.to_thread(CliRunner().invoke, app, ["index", "--json"])
    assert json.loads(anew.output) | {"changed": True, "count": 41} == json.loads(anew.output)
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        # An item of that id stands for a doctor whom somebody has put into the index.
        for user_id, left in (("stranger", 0), ("zebra", 1)):
            request = catalog_pb2.DeleteUsersRequest(user_ids=[user_id])
            checks = (await catalog.DeleteUsers(request)).checks
            remaining = {check.store: check.remaining for check in checks}
            assert remaining.pop("vector collection") == left
            assert set(remaining.values()) == {0}
