"""A campaign from its order to its delivery, as backend services see it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.local_mesh import local_mesh
from recmesh.deployments.mesh_config import CampaignsTable
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.v1 import catalog_pb2, common_pb2, feedback_pb2, recommendation_pb2
from tests.edge.test_feedback_service import ACCEPTED, Caller, home  # noqa: F401

LOOKS = 100


@asynccontextmanager
async def calling(home: Home) -> AsyncIterator[Caller]:  # noqa: F811
    table = CampaignsTable(step_s=0.1, hold_s=30)
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0", campaigns=table) as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        yield Caller(channel)


async def ordered(caller: Caller, **fields: object) -> None:
    """One campaign that has begun, for everybody who consents."""
    now = int(time.time())
    campaign = catalog_pb2.Campaign(
        campaign_id="c1",
        sponsor="Example Pharma",
        item_ids=["i37", "i38"],
        starts_at=Timestamp(seconds=now - 60),
        ends_at=Timestamp(seconds=now + 60),
        budget_impressions=20,
        frequency_cap_per_day=1,
        disclosure="Sponsored by Example Pharma",
    )
    campaign.MergeFrom(catalog_pb2.Campaign(**fields))
    await caller.catalog.UpsertCampaigns(
        catalog_pb2.UpsertCampaignsRequest(campaigns=[campaign]), timeout=10
    )


async def sponsored_page(
    caller: Caller, user_id: str = "reader"
) -> tuple[recommendation_pb2.RecommendResponse, recommendation_pb2.Recommendation]:
    """The first page with a sponsored slot, once the campaign's price has risen, and the slot."""
    for _ in range(LOOKS):
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user_id)
        page = await caller.recommendations.Recommend(request, timeout=10)
        for slot in page.recommendations:
            if slot.sponsorship.campaign_id:
                return page, slot
        await asyncio.sleep(0.1)
    pytest.fail("no page had a sponsored slot")


def event(
    kind: common_pb2.EventType.ValueType, user_id: str, item_id: str, token: str
) -> feedback_pb2.Event:
    return feedback_pb2.Event(
        event_id=str(uuid.uuid4()),
        event_type=kind,
        user_id=user_id,
        item_id=item_id,
        attribution_token=token,
        time=Timestamp(seconds=int(time.time())),
    )


async def delivery(caller: Caller, *ids: str) -> catalog_pb2.CampaignDelivery:
    answer = await caller.catalog.GetCampaignDelivery(
        catalog_pb2.GetCampaignDeliveryRequest(campaign_ids=ids), timeout=10
    )
    (found,) = answer.deliveries
    assert isinstance(found, catalog_pb2.CampaignDelivery)
    return found


async def test_a_campaign_is_shown_disclosed_confirmed_and_capped(
    home: Home,  # noqa: F811
) -> None:
    async with calling(home) as caller:
        await ordered(caller)
        page, slot = await sponsored_page(caller)
        assert slot.item_id in ("i37", "i38")
        assert slot.sponsorship.disclosure == "Sponsored by Example Pharma"
        assert (await delivery(caller)).held_impressions == 1
        token = page.attribution_token
        impression = event(common_pb2.EVENT_TYPE_IMPRESSION, "reader", slot.item_id, token)
        click = event(common_pb2.EVENT_TYPE_CLICK, "reader", slot.item_id, token)
        assert await caller.record(impression, click) == [ACCEPTED, ACCEPTED]
        found = await delivery(caller, "c1")
        assert (found.confirmed_impressions, found.clicks, found.held_impressions) == (1, 1, 0)
        assert found.budget_impressions == 20
        for _ in range(10):
            again = await caller.page()
            assert not any(s.sponsorship.campaign_id for s in again.recommendations), "capped"
        await sponsored_page(caller, "colleague")


async def test_no_more_is_shown_than_was_bought_even_after_a_restart(
    home: Home,  # noqa: F811
) -> None:
    async with calling(home) as caller:
        await ordered(caller, budget_impressions=1)
        await sponsored_page(caller)
    async with calling(home) as caller:
        assert (await delivery(caller)).held_impressions == 1
        for user_id in ("colleague", "stranger") * 5:
            request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user_id)
            page = await caller.recommendations.Recommend(request, timeout=10)
            assert not any(s.sponsorship.campaign_id for s in page.recommendations)


async def test_an_unknown_campaign_is_named(home: Home) -> None:  # noqa: F811
    async with calling(home) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await delivery(caller, "nobody's")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert "nobody's" in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"ends_at": Timestamp(seconds=5)}, "ends_at"),
        ({"targeting": catalog_pb2.Targeting(countries=["XX"])}, "countries"),
    ],
)
async def test_a_campaign_that_cannot_be_meant_is_refused(
    home: Home,  # noqa: F811
    fields: dict[str, object],
    named: str,
) -> None:
    async with calling(home) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ordered(caller, **fields)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert named in (refused.value.details() or "")
