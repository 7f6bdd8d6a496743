"""What the ledger last said of every campaign's price, for the requests that come next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook, Float32, Int64
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing


class PacingBoard:
    """The newest prices. Belongs to one event loop."""

    def __init__(self) -> None:
        self._by_campaign: dict[str, CampaignPacing] | None = None
        self._aligned_with: CampaignBook | None = None
        self._price: Float32 = np.zeros(0, np.float32)
        self._remaining: Int64 = np.zeros(0, np.int64)

    @property
    def known(self) -> bool:
        """Whether the ledger was ever heard: no campaign takes part before."""
        return self._by_campaign is not None

    def post(self, campaigns: Sequence[CampaignPacing]) -> None:
        """Replaces everything with what the ledger says now."""
        self._by_campaign = {one.campaign_id: one for one in campaigns}
        self._aligned_with = None

    def of(self, book: CampaignBook) -> tuple[Float32, Int64]:
        """Price and remaining impressions of the book's campaigns ``[n]`` each.

        A campaign that the ledger does not know yet has nothing left to give.
        """
        if self._aligned_with is not book:
            known = self._by_campaign or {}
            found = [known.get(campaign_id) for campaign_id in book.campaign_ids]
            self._price = np.array([one.price if one else 0.0 for one in found], np.float32)
            self._remaining = np.array([one.remaining if one else 0 for one in found], np.int64)
            self._aligned_with = book
        return self._price, self._remaining

    def spent(self, book: CampaignBook, row: int) -> None:
        """The ledger refused a campaign for want of budget: it is not tried until it is heard."""
        _, remaining = self.of(book)
        remaining[row] = 0
