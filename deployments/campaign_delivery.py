"""How far campaigns have been delivered, and how far they will be."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.deployments.campaign_traffic import CampaignTraffic
from recmesh.deployments.current_campaigns import CampaignTerms
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook, Int64
from recmesh.orchestrator.campaigns.forecast import forecast
from recmesh.orchestrator.campaigns.pacing import Float64, Prices, planned
from recmesh.storage.campaign_ledger import CampaignCounts, SavedPrice


class CampaignState(enum.Enum):
    """Where a campaign stands."""

    NOT_BEGUN = "not begun"
    RUNNING = "running"
    SHORT = "short"
    """It has ended with less than was bought."""
    ENDED = "ended"
    """With all that was bought."""


@dataclass(frozen=True, slots=True)
class CampaignStanding:
    """One campaign's delivery at a moment."""

    row: int
    """In the campaign book."""
    counts: CampaignCounts
    planned: float
    """Impressions that its even delivery would have confirmed until now."""
    price: float
    forecast: float
    """Share of the budget delivered at its end, in [0, 1]."""
    state: CampaignState

    @property
    def pace(self) -> float | None:
        """Confirmed over planned; None while nothing is planned."""
        return self.counts.confirmed / self.planned if self.planned >= 1 else None


def delivered(book: CampaignBook, counts: Mapping[str, CampaignCounts]) -> Int64:
    """Impressions confirmed or held ``[campaigns]``."""
    nothing = CampaignCounts()
    found = [counts.get(campaign_id, nothing) for campaign_id in book.campaign_ids]
    return np.array([one.confirmed + one.held for one in found], np.int64)


def prices_of(
    book: CampaignBook, saved: Sequence[SavedPrice], got: Int64, now_unix_s: float
) -> Prices:
    """The pacer's state after its last step, aligned with the campaigns of now.

    A campaign that it did not know then starts from what it has ``got``, at price 0.
    """
    by_id = {price.campaign_id: price for price in saved}
    rows = [by_id.get(campaign_id) for campaign_id in book.campaign_ids]

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([getattr(row, name) if row else 0.0 for row in rows], np.float64)

    at_ms = max((price.at_ms for price in saved), default=None)
    return Prices(
        # A clock that was put back leaves no step in the future.
        at_unix_s=now_unix_s if at_ms is None else min(at_ms / 1000, now_unix_s),
        price=column("price"),
        dual=column("dual"),
        error=column("error"),
        delivered=np.array(
            [row.delivered if row else int(got[n]) for n, row in enumerate(rows)], np.int64
        ),
        planned_lately=column("planned_lately"),
        got_lately=column("got_lately"),
    )


def expected_delivery(
    terms: CampaignTerms,
    counts: Mapping[str, CampaignCounts],
    saved: Sequence[SavedPrice],
    traffic: CampaignTraffic,
    now_unix_s: float,
) -> Float64:
    """Share of the budget that each campaign will have had at its end ``[campaigns]``.

    Solves a linear program: call it in a thread.
    """
    if not len(terms.book):
        return np.zeros(0)
    got = delivered(terms.book, counts)
    return forecast(
        terms.book,
        traffic.profile,
        traffic.audiences,
        prices_of(terms.book, saved, got, now_unix_s),
        got,
        now_unix_s=now_unix_s,
        caps_per_day=terms.caps_per_day,
        sponsored_per_page=terms.sponsored_per_page,
        largest_price=terms.largest_price,
    )


def standings(
    terms: CampaignTerms,
    counts: Mapping[str, CampaignCounts],
    saved: Sequence[SavedPrice],
    traffic: CampaignTraffic,
    expected: Float64,
    now_unix_s: float,
) -> list[CampaignStanding]:
    """Every campaign of the book, in its order.

    ``expected`` is what :func:`expected_delivery` says, or said lately ``[campaigns]``.
    """
    book = terms.book
    prices = prices_of(book, saved, delivered(book, counts), now_unix_s)
    none = Prices.start(len(book), 0.0)
    due = planned(book, traffic.profile, none, now_unix_s, traffic.room_per_day(terms))
    nothing = CampaignCounts()
    return [
        CampaignStanding(
            row,
            had := counts.get(campaign_id, nothing),
            float(due[row]),
            float(prices.price[row]),
            # What was confirmed since it was foreseen is certain.
            float(max(expected[row], min(had.confirmed / book.budget[row], 1.0))),
            _state(book, row, had, now_unix_s),
        )
        for row, campaign_id in enumerate(book.campaign_ids)
    ]


def _state(book: CampaignBook, row: int, had: CampaignCounts, now_unix_s: float) -> CampaignState:
    if now_unix_s < book.starts_unix_s[row]:
        return CampaignState.NOT_BEGUN
    if now_unix_s < book.ends_unix_s[row]:
        return CampaignState.RUNNING
    return CampaignState.ENDED if had.confirmed >= book.budget[row] else CampaignState.SHORT
