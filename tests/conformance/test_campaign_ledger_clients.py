"""One suite for whoever asks the ledger of sponsored slots: over gRPC, and in the same process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.campaign_ledger_client import GrpcCampaignLedger, InProcessCampaignLedger
from recmesh.deployments.catalog_app import LEDGER
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.campaigns.campaign_ledger import (
    CampaignLedger,
    CampaignPacing,
    Hold,
    WantedSlot,
)
from recmesh.storage.campaign_ledger import HoldOutcome
from recmesh.storage.campaign_tables import CAMPAIGN_SLOTS
from recmesh.storage.database import Database
from recmesh.storage.errors import UnavailableError
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import catalog_pb2
from tests.small_world import ingested_home

NOW_UNIX_S = int(time.time())
DAY_S = 86_400


def campaign(campaign_id: str, **fields: Any) -> catalog_pb2.Campaign:
    defaults: dict[str, Any] = {
        "sponsor": "s",
        "item_ids": ["i1"],
        "starts_at": Timestamp(seconds=NOW_UNIX_S - DAY_S),
        "ends_at": Timestamp(seconds=NOW_UNIX_S + DAY_S),
        "budget_impressions": 3,
        "disclosure": "Ad",
    }
    return catalog_pb2.Campaign(campaign_id=campaign_id, **(defaults | fields))


CAMPAIGNS = [
    campaign("c1"),
    campaign("capped", frequency_cap_per_day=1),
    campaign("early", starts_at=Timestamp(seconds=NOW_UNIX_S + DAY_S // 2)),
    campaign("over", ends_at=Timestamp(seconds=NOW_UNIX_S - DAY_S // 2)),
]


@pytest.fixture
async def writer(database_uri: str, tmp_path: Path) -> AsyncIterator[CatalogWriter]:
    tokens = AttributionTokens(SigningKeys.random())
    made = CatalogWriter(ingested_home(tmp_path), database_uri, None, "", tokens)
    await made.start()
    request = catalog_pb2.UpsertCampaignsRequest(campaigns=CAMPAIGNS)
    await made.catalog_service["UpsertCampaigns"](request, math.inf)
    yield made
    await made.close()


@pytest.fixture(params=["grpc", "in process"])
async def ledger(
    request: pytest.FixtureRequest, writer: CatalogWriter
) -> AsyncIterator[CampaignLedger]:
    if request.param == "in process":
        yield InProcessCampaignLedger(writer.campaigns)
        return
    server = GrpcServer([LEDGER.full_name])
    add_service(server, LEDGER, writer.campaigns.ledger_service, checked=True)
    port = await server.start("127.0.0.1:0")
    client = GrpcCampaignLedger()
    client.set_addresses([f"127.0.0.1:{port}"])
    client.set_addresses([])
    yield client
    await client.close()
    await server.stop(0)


async def hold(
    ledger: CampaignLedger, request_id: str, *slots: str, user_id: str = "u1"
) -> list[Hold]:
    """Slots are written ``item:campaign``."""
    wanted = [WantedSlot(*slot.split(":")) for slot in slots]
    return await ledger.hold(request_id, user_id, wanted, timeout_s=10)


async def test_slots_are_held_in_order_each_as_it_can_be(ledger: CampaignLedger) -> None:
    held = await hold(
        ledger,
        "r1",
        *("i1:c1", "i2:capped", "i3:early", "i4:over", "i5:nobody", "i6:capped", "i1:c1"),
    )
    assert held == [
        *(Hold.HELD, Hold.HELD, Hold.NOT_RUNNING, Hold.NOT_RUNNING),
        *(Hold.NOT_RUNNING, Hold.CAPPED, Hold.HELD),
    ]
    assert await hold(ledger, "r1", "i1:c1", "i2:capped") == [Hold.HELD, Hold.HELD]
    assert await hold(ledger, "r1", "i9:nobody") == [Hold.NOT_RUNNING]


async def test_a_campaign_without_a_cap_has_the_policys(ledger: CampaignLedger) -> None:
    assert await hold(ledger, "r1", "i1:c1", "i2:c1", "i3:c1") == [
        *(Hold.HELD, Hold.HELD),
        Hold.CAPPED,
    ]


async def test_pages_together_get_no_more_than_was_bought(ledger: CampaignLedger) -> None:
    pages = [hold(ledger, f"r{n}", "i1:c1", user_id=f"u{n}") for n in range(30)]
    held = [one for (one,) in await asyncio.gather(*pages)]
    assert held.count(Hold.HELD) == 3
    assert held.count(Hold.SPENT) == 27


async def test_pacing_tells_what_is_left_of_what_is_not_over(ledger: CampaignLedger) -> None:
    await hold(ledger, "r1", "i1:c1")
    assert await ledger.read_pacing(timeout_s=10) == [
        CampaignPacing("c1", 0.0, 2),
        CampaignPacing("capped", 0.0, 3),
        CampaignPacing("early", 0.0, 3),
    ]


async def test_a_ledger_that_takes_too_long_is_unavailable(
    ledger: CampaignLedger, writer: CatalogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hold(ledger, "r1", "i1:c1")

    def slowly(_: object, pages: list[object], __: int) -> list[list[HoldOutcome]]:
        time.sleep(0.3)
        return [[HoldOutcome.HELD]] * len(pages)

    monkeypatch.setattr("recmesh.storage.campaign_ledger.SlotLedger.hold", slowly)
    with pytest.raises(UnavailableError):
        await ledger.hold("r2", "u1", [WantedSlot("i1", "c1")], timeout_s=0.05)
    await asyncio.sleep(0.4)


async def test_a_database_that_fails_is_unavailable(
    ledger: CampaignLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hold(ledger, "r1", "i1:c1")

    def fail(*_: object) -> None:
        raise UnavailableError("the database failed (OperationalError)")

    monkeypatch.setattr("recmesh.storage.campaign_ledger.SlotLedger.hold", fail)
    with pytest.raises(UnavailableError):
        await hold(ledger, "r2", "i1:c1")
    monkeypatch.setattr("recmesh.storage.campaign_ledger.SlotLedger.counts", fail)
    with pytest.raises(UnavailableError):
        await ledger.read_pacing(timeout_s=10)


async def test_a_text_no_database_keeps_is_refused_alone(ledger: CampaignLedger) -> None:
    bad = hold(ledger, "nul\0", "i1:c1")
    good = hold(ledger, "r1", "i1:c1")
    refused, held = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(refused, UnavailableError)
    assert held == [Hold.HELD]


async def test_who_has_no_address_is_unavailable() -> None:
    client = GrpcCampaignLedger()
    with pytest.raises(UnavailableError, match="no address"):
        await hold(client, "r1", "i1:c1")
    client.set_addresses(["127.0.0.1:1"])
    with pytest.raises(UnavailableError, match="UNAVAILABLE"):
        await client.read_pacing(timeout_s=5)
    await client.close()


async def test_what_is_held_is_in_the_database(
    ledger: CampaignLedger, database_uri: str, tmp_path: Path
) -> None:
    await hold(ledger, "r1", "i1:c1", user_id="doctor")
    database = Database.for_reading(database_uri, tmp_path / "recmesh.db")
    assert database is not None
    with database.reading() as connection:
        (row,) = connection.execute(sa.select(CAMPAIGN_SLOTS)).all()
    assert (row.request_id, row.item_id, row.user_id, row.state) == ("r1", "i1", "doctor", "open")
    database.close()
