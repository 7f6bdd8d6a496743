"""The methods of ``CampaignLedgerService``, and ``CatalogService.GetCampaignDelivery``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from recmesh.deployments.campaign_delivery import CampaignStanding, CampaignState, standings
from recmesh.deployments.campaign_traffic import CampaignTraffic
from recmesh.deployments.current_campaigns import CampaignTerms, CurrentCampaigns
from recmesh.deployments.grpc_service import Method
from recmesh.deployments.kept_forecast import KeptForecast
from recmesh.storage.campaign_ledger import (
    CampaignCounts,
    HoldOutcome,
    PageWish,
    SlotLedger,
    SlotWish,
)
from recmesh.storage.errors import InvalidRequestError, NotFoundError
from recmesh.storage.group_commit import GroupCommit
from recmesh.v1 import campaign_ledger_pb2, catalog_pb2

MOST_WAITING = 512
"""Pages that may wait for the disk; more are refused."""
MOST_TOGETHER = 64
"""Pages that share a transaction."""

NOT_RUNNING = campaign_ledger_pb2.HOLD_STATUS_NOT_RUNNING
_STATUS = {
    outcome: campaign_ledger_pb2.HoldStatus.Value(f"HOLD_STATUS_{outcome.name}")
    for outcome in HoldOutcome
}


class CampaignMethods:
    """Belongs to one event loop. Slots are answered once they are durable."""

    def __init__(
        self,
        ledger: SlotLedger,
        campaigns: CurrentCampaigns,
        traffic: Callable[[CampaignTerms], CampaignTraffic],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._campaigns = campaigns
        self._traffic = traffic
        self._clock = clock
        self._forecast = KeptForecast()
        self._commits: GroupCommit[PageWish] = GroupCommit(
            lambda pages: ledger.hold(pages, int(1000 * clock())),
            most_waiting=MOST_WAITING,
            most_together=MOST_TOGETHER,
        )

    @property
    def ledger_service(self) -> Mapping[str, Method]:
        """By name in ``CampaignLedgerService``."""
        return {"HoldSlots": self.hold_slots, "ReadPacing": self.read_pacing}

    @property
    def catalog_service(self) -> Mapping[str, Method]:
        """By name in ``CatalogService``."""
        return {"GetCampaignDelivery": self.get_campaign_delivery}

    async def hold_slots(
        self, request: campaign_ledger_pb2.HoldSlotsRequest, _: float
    ) -> campaign_ledger_pb2.HoldSlotsResponse:
        """Holds the slots of one page."""
        _refuse_nul(request)
        terms = self._campaigns.terms
        wanted = {slot.campaign_id for slot in request.slots}
        if terms is None or not wanted <= terms.book.row_of.keys():
            # Orchestrators may have heard of a campaign first.
            terms = await asyncio.to_thread(self._campaigns.look)
        runs = terms.book.running(int(self._clock()))
        rows = [terms.book.row_of.get(slot.campaign_id) for slot in request.slots]
        wishes = [
            SlotWish(
                slot.item_id,
                slot.campaign_id,
                int(terms.book.budget[row]),
                int(terms.caps_per_day[row]),
            )
            for slot, row in zip(request.slots, rows, strict=True)
            if row is not None and runs[row]
        ]
        held: list[HoldOutcome] = []
        if wishes:
            page = PageWish(
                request.request_id,
                request.user_id,
                wishes,
                # A slot whose campaign does not run is not held, so the page will be another.
                request.decision
                if request.HasField("decision") and len(wishes) == len(request.slots)
                else None,
            )
            held = await asyncio.wrap_future(self._commits.submit(page))
        outcomes = iter(held)
        return campaign_ledger_pb2.HoldSlotsResponse(
            statuses=[
                _STATUS[next(outcomes)] if row is not None and runs[row] else NOT_RUNNING
                for row in rows
            ]
        )

    async def read_pacing(
        self, _: campaign_ledger_pb2.ReadPacingRequest, __: float
    ) -> campaign_ledger_pb2.ReadPacingResponse:
        """Price and remaining impressions of every campaign that is not over."""
        return await asyncio.to_thread(self._pacing)

    def _pacing(self) -> campaign_ledger_pb2.ReadPacingResponse:
        book = (self._campaigns.terms or self._campaigns.look()).book
        now_unix_s = self._clock()
        counts = self._ledger.counts()
        prices = {saved.campaign_id: saved.price for saved in self._ledger.prices()}
        answer = campaign_ledger_pb2.ReadPacingResponse()
        for row, campaign_id in enumerate(book.campaign_ids):
            if now_unix_s < book.ends_unix_s[row]:
                had = counts.get(campaign_id, CampaignCounts())
                answer.campaigns.add(
                    campaign_id=campaign_id,
                    price=prices.get(campaign_id, 0.0),
                    remaining_impressions=max(0, int(book.budget[row]) - had.held - had.confirmed),
                )
        return answer

    async def get_campaign_delivery(
        self, request: catalog_pb2.GetCampaignDeliveryRequest, _: float
    ) -> catalog_pb2.GetCampaignDeliveryResponse:
        """How far campaigns have been delivered.

        Raises:
            NotFoundError: names the first campaign that is not known.
        """
        return await asyncio.to_thread(self._delivery, list(dict.fromkeys(request.campaign_ids)))

    def _delivery(self, campaign_ids: list[str]) -> catalog_pb2.GetCampaignDeliveryResponse:
        terms = self._campaigns.look()
        for campaign_id in campaign_ids:
            if campaign_id not in terms.book.row_of:
                raise NotFoundError(f"no campaign {campaign_id!r}")
        counts, saved, traffic = self._ledger.counts(), self._ledger.prices(), self._traffic(terms)
        now_unix_s = self._clock()
        expected = self._forecast.of(terms, counts, saved, traffic, now_unix_s)
        found = standings(terms, counts, saved, traffic, expected, now_unix_s)
        if campaign_ids:
            wanted = [found[terms.book.row_of[campaign_id]] for campaign_id in campaign_ids]
        else:
            wanted = [one for one in found if one.state is CampaignState.RUNNING]
        return catalog_pb2.GetCampaignDeliveryResponse(
            deliveries=[_delivery(terms, standing) for standing in wanted]
        )

    def close(self) -> None:
        """Writes what waits, then ends. Blocks."""
        self._commits.close()


def _delivery(terms: CampaignTerms, standing: CampaignStanding) -> catalog_pb2.CampaignDelivery:
    return catalog_pb2.CampaignDelivery(
        campaign_id=terms.book.campaign_ids[standing.row],
        budget_impressions=int(terms.book.budget[standing.row]),
        confirmed_impressions=standing.counts.confirmed,
        clicks=standing.counts.clicks,
        forecast=standing.forecast,
        held_impressions=standing.counts.held,
        planned_impressions=round(standing.planned),
        price=standing.price,
    )


def _refuse_nul(request: campaign_ledger_pb2.HoldSlotsRequest) -> None:
    """No database could keep it, and other pages of the transaction would suffer."""
    for field in ("request_id", "user_id"):
        if "\0" in getattr(request, field):
            raise InvalidRequestError(field, "must not hold the character NUL")
    for place, slot in enumerate(request.slots):
        if "\0" in slot.item_id:
            raise InvalidRequestError(f"slots[{place}].item_id", "must not hold the character NUL")
