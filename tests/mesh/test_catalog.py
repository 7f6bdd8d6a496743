"""Writes through the real edge into a running mesh."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import grpc
import pytest

from recmesh.v1 import catalog_pb2, catalog_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc
from tests.mesh.conftest import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]

EVENTUALLY_S = 60.0
DOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + EVENTUALLY_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


class Caller:
    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.recommendations = recommendation_pb2_grpc.RecommendationServiceStub(self.channel)

    def shown(self, surface: str, query: str = "") -> list[str]:
        request = recommendation_pb2.RecommendRequest(
            surface=surface, user_id="reader", query=query, page_size=50
        )
        page = self.recommendations.Recommend(request, timeout=10, wait_for_ready=True)
        assert "catalog" not in {source.name for source in page.sources}
        return [shown.item_id for shown in page.recommendations]

    def upsert(self, item_id: str, title: str) -> bool:
        item = catalog_pb2.Item(item_id=item_id, title=title, content_type="article")
        try:
            self.catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[item]), timeout=5)
        except grpc.RpcError as error:
            if error.code() not in DOWN:
                raise
            return False
        return True


@pytest.fixture
def caller(mesh: RunningMesh) -> Caller:
    return Caller(mesh.address)


def test_written_items_show_and_deleted_ones_go(caller: Caller) -> None:
    assert caller.upsert("axolotl", "Axolotl regeneration")
    eventually(lambda: caller.shown("search", "Axolotl regeneration")[:1] == ["axolotl"])
    deleted = caller.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=["axolotl"]))
    assert deleted.deleted == 1
    eventually(lambda: "axolotl" not in caller.shown("search", "Axolotl regeneration"))


def test_a_killed_writer_loses_nothing_and_costs_no_page(mesh: RunningMesh, caller: Caller) -> None:
    (writer,) = mesh.processes("ray::ServeReplica:catalog:")
    acknowledged = [f"k{n}" for n in range(20) if caller.upsert(f"k{n}", f"Quokka {n}")]
    os.kill(writer.pid, signal.SIGKILL)
    assert caller.shown("feed")
    tried = 0
    while not caller.upsert("after", "Quokka after"):
        assert caller.shown("feed"), "pages come from the last snapshot"
        tried += 1
        assert tried < 60
        time.sleep(0.5)
    eventually(lambda: {*acknowledged, "after"} <= set(caller.shown("search", "Quokka")))
    ids = [*acknowledged, "after"]
    deleted = caller.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=ids))
    assert deleted.deleted == len(ids)
