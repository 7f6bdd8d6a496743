"""Sponsored slots while the writer is killed, over real connections."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.campaign_ledger_client import GrpcCampaignLedger
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, WantedSlot
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.campaign_tables import CAMPAIGN_SLOTS, CONFIRMED
from recmesh.storage.database import Database
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import catalog_pb2, catalog_pb2_grpc, common_pb2, feedback_pb2, feedback_pb2_grpc
from tests.event_writer import Writer
from tests.small_world import ingested_home

KILLS = 4
CALLERS = 6
PAGES_A_LIFE = 30
BUDGET = 80
GIVE_UP_S = 60.0

# The writer as a mesh runs it, without Ray.
WRITER = """
import asyncio, sys
from pathlib import Path
from recmesh.deployments.catalog_app import LEDGER
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.edge_services import CATALOG, FEEDBACK
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.deployments.mesh_config import CampaignsTable
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys

async def main():
    home = Home(Path(sys.argv[1]))
    tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
    writer = CatalogWriter(home, "", None, "", tokens, campaigns=CampaignsTable(step_s=0.2))
    await writer.start(5.0)
    server = GrpcServer([FEEDBACK.full_name])
    add_service(server, CATALOG, writer.catalog_service, checked=True)
    add_service(server, FEEDBACK, writer.feedback.offered, checked=True)
    add_service(server, LEDGER, writer.campaigns.ledger_service, checked=True)
    await server.start(f"127.0.0.1:{sys.argv[2]}")
    print("serves", flush=True)
    await server.server.wait_for_termination()

asyncio.run(main())
"""


class Pages:
    """Orchestrators and services that hold slots and record impressions until each is answered."""

    def __init__(self, home: Home, port: int) -> None:
        self._tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}",
            [
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 200),
            ],
        )
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        self._address = f"127.0.0.1:{port}"
        self.held: set[str] = set()
        self.confirmed: set[str] = set()
        self.answered = 0

    async def serve(self, ledger: GrpcCampaignLedger, request_id: str) -> None:
        """One page; every other one that is held is seen."""
        end = time.monotonic() + GIVE_UP_S
        while True:
            try:
                wanted = [WantedSlot("i1", "c1")]
                (hold,) = await ledger.hold(request_id, "reader", wanted, timeout_s=5)
                break
            except UnavailableError:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
        if hold is Hold.HELD:
            self.held.add(request_id)
            if len(self.held) % 2:
                await self._see(request_id, end)
        else:
            assert hold is Hold.SPENT
        self.answered += 1

    async def _see(self, request_id: str, end: float) -> None:
        now = int(time.time())
        event = feedback_pb2.Event(
            event_id=request_id,
            event_type=common_pb2.EVENT_TYPE_IMPRESSION,
            user_id="reader",
            item_id="i1",
            time=Timestamp(seconds=now),
            attribution_token=self._tokens.issue(
                request_id=request_id,
                surface="feed",
                policy_version="p",
                issued_at_unix_s=now,
                user_id="reader",
                item_ids=["i1"],
                campaigns={1: "c1"},
            ),
        )
        message = feedback_pb2.RecordEventsRequest(caller="app", events=[event])
        while True:
            try:
                (outcome,) = (await self._feedback.RecordEvents(message, timeout=5)).outcomes
            except grpc.aio.AioRpcError:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
                continue
            assert outcome.status in (
                feedback_pb2.EVENT_STATUS_ACCEPTED,
                feedback_pb2.EVENT_STATUS_DUPLICATE,
            )
            self.confirmed.add(request_id)
            return

    def client(self) -> GrpcCampaignLedger:
        ledger = GrpcCampaignLedger()
        ledger.set_addresses([self._address])
        return ledger


def campaign() -> catalog_pb2.UpsertCampaignsRequest:
    now = int(time.time())
    return catalog_pb2.UpsertCampaignsRequest(
        campaigns=[
            catalog_pb2.Campaign(
                campaign_id="c1",
                sponsor="s",
                item_ids=["i1"],
                starts_at=Timestamp(seconds=now - 3600),
                ends_at=Timestamp(seconds=now + 86_400),
                budget_impressions=BUDGET,
                frequency_cap_per_day=1000,
                disclosure="Ad",
            )
        ]
    )


async def test_kill_9_loses_no_slot_and_overdraws_no_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.event_writer.WRITER", WRITER)
    home = ingested_home(tmp_path)
    SigningKeys.load_or_make(home.attribution_keys)
    writer = Writer(home)
    writer.start()
    pages = Pages(home, writer.port)
    await catalog_pb2_grpc.CatalogServiceStub(pages.channel).UpsertCampaigns(campaign(), timeout=10)
    ending = asyncio.Event()

    async def caller(which: int) -> None:
        ledger, number = pages.client(), 0
        while not ending.is_set():
            await pages.serve(ledger, f"{which}-{number}")
            number += 1
        await ledger.close()

    serving = [asyncio.create_task(caller(which)) for which in range(CALLERS)]

    async def until(answered: int) -> None:
        async with asyncio.timeout(GIVE_UP_S):
            while pages.answered < answered:
                for task in serving:
                    assert not task.done() or task.exception() is None
                await asyncio.sleep(0.005)

    for life in range(KILLS):
        await until((life + 1) * PAGES_A_LIFE)
        writer.kill()
        await asyncio.to_thread(writer.start)
    await until((KILLS + 1) * PAGES_A_LIFE)
    ending.set()
    await asyncio.gather(*serving)
    await pages.channel.close()
    writer.kill()

    database = Database.for_writing("", home.database, wait_s=5)
    ledger = SlotLedger(database)
    with database.reading() as connection:
        rows = connection.execute(CAMPAIGN_SLOTS.select()).all()
    assert ledger.audit() == []
    assert {row.request_id for row in rows} == pages.held, "nothing was held that nobody was told"
    assert {row.request_id for row in rows if row.state == CONFIRMED} == pages.confirmed
    assert len(pages.held) == BUDGET
    assert len(ledger.prices()) == 1, "the pacer goes on after every kill"
    database.close()
