"""How much of what was bought will have been delivered when a campaign ends."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.pacing import DAYS_A_WEEK, Float64, Int64, Prices
from recmesh.orchestrator.campaigns.reach import Audiences, deliverable_per_day
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile

NEAR_THE_BOUND = 0.8
"""Share of the largest price from which a campaign cannot be helped much more."""


def forecast(
    book: CampaignBook,
    traffic: TrafficProfile,
    audiences: Audiences,
    prices: Prices,
    delivered: Int64,
    *,
    now_unix_s: float,
    caps_per_day: Int64,
    sponsored_per_page: int,
    largest_price: float,
) -> Float64:
    """Share of its budget that each campaign will have had ``[campaigns]``, in [0, 1].

    Before a campaign has a history it is what its reach has room for, beside all others: known
    before it begins. Once its price is at the bound and it is still behind, the part of its plan
    that it gets now is the part that it is expected to get of what is left.

    Args:
        book: all campaigns.
        traffic: over the week.
        audiences: all users.
        prices: of now.
        delivered: impressions confirmed or held ``[campaigns]``.
        now_unix_s: the moment.
        caps_per_day: by campaign.
        sponsored_per_page: most sponsored slots of a page.
        largest_price: the bound of prices.
    """
    left = np.maximum(book.budget - delivered, 0).astype(np.float64)
    begins = np.maximum(book.starts_unix_s, now_unix_s)
    days = DAYS_A_WEEK * traffic.between(begins, book.ends_unix_s)
    wanted = np.where(days > 0, left / np.maximum(days, 1e-9), 0.0)
    given = deliverable_per_day(book, audiences, wanted, caps_per_day, sponsored_per_page)
    share = np.where(wanted > 0, given / np.maximum(wanted, 1e-12), 0.0)
    stuck = book.running(int(now_unix_s)) & (prices.price >= NEAR_THE_BOUND * largest_price)
    share = np.where(stuck, np.minimum(share, prices.rate), share)
    expected = (delivered + left * share) / book.budget
    return np.asarray(np.minimum(expected, 1.0), np.float64)
