"""Writes through the real edge into a running mesh."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

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


def delivered(caller: Caller) -> catalog_pb2.CampaignDelivery:
    request = catalog_pb2.GetCampaignDeliveryRequest(campaign_ids=["mesh-campaign"])
    (found,) = caller.catalog.GetCampaignDelivery(request, timeout=10).deliveries
    assert isinstance(found, catalog_pb2.CampaignDelivery)
    return found


def test_a_campaign_is_held_to_its_budget_across_a_killed_writer(
    mesh: RunningMesh, caller: Caller
) -> None:
    now = int(time.time())
    campaign = catalog_pb2.Campaign(
        campaign_id="mesh-campaign",
        sponsor="Example Pharma",
        item_ids=["i37", "i38", "i39"],
        starts_at=Timestamp(seconds=now - 3600),
        ends_at=Timestamp(seconds=now + 3600),
        budget_impressions=3,
        frequency_cap_per_day=100,
        disclosure="Sponsored by Example Pharma",
    )
    caller.catalog.UpsertCampaigns(
        catalog_pb2.UpsertCampaignsRequest(campaigns=[campaign]), timeout=10
    )

    def held_after_a_page(user_id: str) -> int:
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user_id, page_size=50)
        page = caller.recommendations.Recommend(request, timeout=10, wait_for_ready=True)
        assert page.recommendations
        return delivered(caller).held_impressions

    eventually(lambda: held_after_a_page("reader") > 0)
    (writer,) = mesh.processes("ray::ServeReplica:catalog:")
    os.kill(writer.pid, signal.SIGKILL)
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id="stranger")
    page = caller.recommendations.Recommend(request, timeout=10, wait_for_ready=True)
    assert page.recommendations, "pages go on without sponsored slots"
    eventually(lambda: caller.upsert("after-the-kill", "Numbat"))
    assert delivered(caller).held_impressions > 0, "what was held is durable"
    eventually(lambda: held_after_a_page("colleague") == 3)
    for user_id in ("reader", "stranger", "another"):
        assert held_after_a_page(user_id) == 3, "no more than was bought"
