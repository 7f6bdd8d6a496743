"""Which campaign may pay for which item on this page. Everything here fails closed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.campaigns.campaign_book import Audience, Bool, CampaignBook, Int64
from recmesh.orchestrator.catalog import Catalog
from recmesh.orchestrator.experiments.experiment import ALL
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.page_token import MAX_SLOTS
from recmesh.v1 import common_pb2

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

CAMPAIGNS = "campaigns"
"""Names them among the sources of a page."""
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Offers:
    """What campaigns would pay for on one page."""

    book: CampaignBook
    rows: Int32
    """Catalog rows, ascending and distinct ``[k]``."""
    campaign: Int32
    """Row of the book that pays for each ``[k]``."""
    price: Float32
    """Added to the utility of each ``[k]``."""
    room: Int32
    """Slots that every campaign may have on the page ``[campaigns]``."""
    held_back: Int32
    """Catalog rows that the user is not to see: their campaigns were shown often enough."""

    def __len__(self) -> int:
        return len(self.rows)

    def by_price(self, most: int) -> Int32:
        """The rows that are paid most for, best first."""
        return self.rows[np.argsort(-self.price, kind="stable")[:most]]

    def paying_for(self, rows: Int32) -> Int32:
        """Who pays for each of these catalog rows: a row of the book, or ``NOBODY`` ``[n]``."""
        paying = np.full(len(rows), NOBODY, np.int32)
        at, offered = self._places(rows)
        paying[offered] = self.campaign[at]
        return paying

    def prices_of(self, rows: Int32) -> Float32:
        """What is added to the utility of each of these catalog rows ``[n]``."""
        prices = np.zeros(len(rows), np.float32)
        at, offered = self._places(rows)
        prices[offered] = self.price[at]
        return prices

    def worth_of(self, rows: Int32) -> Float32:
        """Worth of the campaigns that pay for these catalog rows ``[n]``; 0: none does."""
        worth = np.zeros(len(rows), np.float32)
        at, offered = self._places(rows)
        worth[offered] = self.book.value[self.campaign[at]]
        return worth

    def _places(self, rows: Int32) -> tuple[npt.NDArray[np.intp], Bool]:
        """Places of those that are offered, and which are."""
        at = np.searchsorted(self.rows, rows)
        offered = at < len(self.rows)
        offered[offered] = self.rows[at[offered]] == rows[offered]
        return at[offered], offered


def _nothing(book: CampaignBook) -> Offers:
    none = np.zeros(0, np.int32)
    return Offers(book, none, none, np.zeros(0, np.float32), none, none)


def _uncapped(request: Admitted, book: CampaignBook) -> Int64:
    """Slots that the user may have of each campaign, after those of the last 24 hours ``[n]``."""
    counts = Counter(one.campaign_id for one in request.shown_lately if one.campaign_id)
    room = book.caps_per_day(request.snapshot.policy.frequency_cap_per_day)
    for campaign_id, count in counts.items():
        row = book.row_of.get(campaign_id)
        if row is not None:
            room[row] -= count
    return room


def _best(rows: Int32, campaign: Int64, price: Float32, value: Float32) -> Int64:
    """Places of the highest price for each row, ties by worth; in the order of the rows."""
    order = np.lexsort((-value[campaign], -price[campaign], rows))
    ordered = rows[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(order[first], np.int64)


def off_label(catalog: Catalog, rows: Int32, country: str) -> Bool:
    """Whose use is not approved where the user is, or may not be ``[n]``."""
    named = ~catalog.off_label.empty(rows)
    return named & (catalog.off_label.overlaps(rows, (country,)) if country else named)


def offers(mesh: Mesh, request: Admitted) -> Offers:
    """What may be sponsored for this user now.

    A campaign must run, reach the user by its targeting and their consent, have impressions left,
    and not have been shown to them as often as its cap allows. It pays for no item whose use is
    off-label where the user is; licences are the filter's. What an experiment leaves out offers
    nothing.
    """
    snapshot, surface = request.snapshot, request.surface
    book = snapshot.campaigns
    takes_part = surface.universe == "items" and surface.slate.sponsored_share > 0
    held_out = request.without_campaigns
    if not takes_part or not len(book) or mesh.ledger is None or ALL in held_out:
        return _nothing(book)
    audience = Audience(
        request.user.specialties,
        request.country,
        request.language,
        request.user.consents_sponsored,
    )
    reached = book.reaches(audience) & book.running(request.now_unix_s)
    reached[[book.row_of[one] for one in held_out if one in book.row_of]] = False
    if not reached.any():
        return _nothing(book)
    if not mesh.pacing.known:
        request.calls.record(
            CAMPAIGNS,
            common_pb2.SOURCE_STATE_UNAVAILABLE,
            0.0,
            "the ledger of sponsored slots has not been heard yet",
        )
        return _nothing(book)
    price, remaining = mesh.pacing.of(book)
    bound = surface.campaigns.largest_price
    price = np.clip(price, -bound, bound)
    room = np.minimum(_uncapped(request, book), remaining)
    rows, campaign = snapshot.paid_rows
    held_back = rows[(reached & (room <= 0) & (remaining > 0))[campaign]]
    offered = (reached & (room > 0))[campaign]
    offered &= ~np.isin(rows, held_back)
    offered &= ~off_label(request.catalog, rows, request.country)
    rows, campaign = rows[offered], campaign[offered]
    best = _best(rows, campaign, price, book.value)
    rows, campaign = rows[best], campaign[best]
    return Offers(
        book,
        rows,
        campaign.astype(np.int32),
        price[campaign],
        np.minimum(room, MAX_SLOTS).astype(np.int32),
        np.unique(held_back),
    )
