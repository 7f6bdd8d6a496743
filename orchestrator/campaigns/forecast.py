"""How much of what was bought will have been delivered when a campaign ends.

Averages say too much of small campaigns: where three visits are expected, there may be none. So
the impressions that a campaign's reach has room for are taken as a count around that average,
Poisson distributed, and what is expected is the mean of the smaller one of it and of what is
left. Of a campaign of one impression that is the probability that it is delivered.
"""

from __future__ import annotations

import numpy as np
from scipy.special import pdtr

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.pacing import DAYS_A_WEEK, Float64, Int64, Prices
from recmesh.orchestrator.campaigns.reach import Audiences, deliverable_per_day, room_per_day
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile

SHORT_BELOW = 0.98
"""Forecast below which a campaign is called short."""
NEAR_THE_BOUND = 0.8
"""Share of the largest price from which a campaign cannot be helped much more."""


def share_by_chance(wanted: Float64, room: Float64) -> Float64:
    """Share of the impressions wanted that a random number of chances gives, on average ``[n]``.

    Args:
        wanted: impressions, ≥ 0; of 0 the share is 1.
        room: mean of the number of chances, ≥ 0, a Poisson variable.
    """
    # E[min(K, N)] = m P(K ≤ N − 2) + N P(K ≥ N).
    fewer = pdtr(np.maximum(wanted - 1.0, 0.0), room)
    fewer_still = np.where(wanted >= 2, pdtr(np.maximum(wanted - 2.0, 0.0), room), 0.0)
    least = room * fewer_still + wanted * (1.0 - fewer)
    return np.where(wanted > 0, least / np.maximum(wanted, 1.0), 1.0)


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

    Before a campaign has a history it is what its reach has room for, beside all others and by
    chance: known before it begins. Once its price is at the bound and it is still behind, the part
    of its plan that it gets now is the part that it is expected to get of what is left.

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
    room = days * room_per_day(book, audiences, caps_per_day)
    share = np.minimum(share, share_by_chance(left, room))
    stuck = book.running(int(now_unix_s)) & (prices.price >= NEAR_THE_BOUND * largest_price)
    share = np.where(stuck, np.minimum(share, prices.rate), share)
    expected = (delivered + left * share) / book.budget
    return np.asarray(np.minimum(expected, 1.0), np.float64)
