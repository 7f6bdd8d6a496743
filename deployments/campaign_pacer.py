"""Paces campaigns: lets unconfirmed slots lapse, and moves prices, once a step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from recmesh.deployments.campaign_delivery import delivered, prices_of
from recmesh.deployments.campaign_traffic import DAY_S, CampaignTraffic
from recmesh.deployments.current_campaigns import CampaignTerms, CurrentCampaigns
from recmesh.deployments.following import follow
from recmesh.deployments.mesh_config import CampaignsTable
from recmesh.orchestrator.campaigns.pacing import PacingSettings, Prices, next_prices
from recmesh.storage.campaign_ledger import SavedPrice, SlotLedger
from recmesh.storage.telemetry.mesh_measures import PACING_ERROR, PACING_SHORTFALL

POLL_S = 0.5
"""Between looks whether campaigns have changed."""

ReadTraffic = Callable[[float, int], CampaignTraffic]
"""Past traffic, given the moment and the impressions that make a page. Blocks."""


class CampaignPacer:
    """Belongs to one event loop. Its state is in the ledger: a restart goes on where it was."""

    def __init__(
        self,
        ledger: SlotLedger,
        campaigns: CurrentCampaigns,
        read_traffic: ReadTraffic,
        table: CampaignsTable,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._campaigns = campaigns
        self._read_traffic = read_traffic
        self._table = table
        self._clock = clock
        self._traffic: tuple[float, CampaignTraffic] | None = None
        self._working: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Paces for ever; cancel to end, then :meth:`close`."""
        await follow(self._work, "campaigns", POLL_S)

    async def _work(self) -> None:
        # A thread cannot be cancelled: whoever ends this must wait for it.
        self._working = asyncio.ensure_future(asyncio.to_thread(self.tick))
        await asyncio.shield(self._working)

    async def close(self) -> None:
        """Waits for a step under way."""
        if self._working is not None:
            await asyncio.gather(self._working, return_exceptions=True)

    def traffic(self, terms: CampaignTerms) -> CampaignTraffic:
        """Past traffic, looked at once a day. Blocks.

        Raises:
            UnavailableError: database or data set does not answer.
        """
        now_unix_s = self._clock()
        if self._traffic is None or now_unix_s - self._traffic[0] >= DAY_S:
            self._traffic = now_unix_s, self._read_traffic(now_unix_s, terms.page_size)
        return self._traffic[1]

    def tick(self) -> None:
        """Looks at the campaigns, and makes a step if one is due. Blocks.

        Raises:
            RecMeshError: database, data set or policy cannot be read; nothing is half done.
        """
        terms = self._campaigns.look()
        now_unix_s = self._clock()
        saved = self._ledger.prices()
        due_unix_s = max((price.at_ms / 1000 for price in saved), default=0.0) + self._table.step_s
        # A clock that was put back must not stop the pace until it is where it was.
        early = now_unix_s < due_unix_s <= now_unix_s + 2 * self._table.step_s
        if not len(terms.book) or early:
            return
        self._ledger.lapse(int(1000 * (now_unix_s - self._table.hold_s)))
        got = delivered(terms.book, self._ledger.counts())
        before = prices_of(terms.book, saved, got, now_unix_s)
        if now_unix_s > before.at_unix_s:
            settings = PacingSettings(largest_price=terms.largest_price)
            traffic = self.traffic(terms)
            room = traffic.room_per_day(terms)
            after = next_prices(
                terms.book, traffic.profile, before, got, now_unix_s, room, settings
            )
        else:
            after = before
        self._ledger.save_prices(_saved(terms, after))
        for gauge, values in ((PACING_ERROR, after.error), (PACING_SHORTFALL, after.shortfall)):
            by_id = zip(terms.book.campaign_ids, values.tolist(), strict=True)
            gauge.replace({(id_,): value for id_, value in by_id})


def _saved(terms: CampaignTerms, prices: Prices) -> list[SavedPrice]:
    return [
        SavedPrice(
            campaign_id,
            int(1000 * prices.at_unix_s),
            float(prices.price[row]),
            float(prices.dual[row]),
            float(prices.error[row]),
            int(prices.delivered[row]),
            float(prices.planned_lately[row]),
            float(prices.got_lately[row]),
        )
        for row, campaign_id in enumerate(terms.book.campaign_ids)
    ]
