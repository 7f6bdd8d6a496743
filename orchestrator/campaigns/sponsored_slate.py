"""The slate with its sponsored slots: no dearer than the policy allows, and durable before shown.

What campaigns cost is measured on every page that has them: the same candidates are ordered once
more as if nobody paid, and both orders are valued by the utility of their items, discounted by
rank as in nDCG. A page that would lose more than the policy's share goes without its dearest
campaign, and another, until it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from recmesh.orchestrator.campaigns.campaign_ledger import Hold, WantedSlot
from recmesh.orchestrator.campaigns.offers import NOBODY, Int32, Offers
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.slate.candidates import Bool, Float32, Float64, SlateCandidates
from recmesh.orchestrator.slate.chance import draws
from recmesh.orchestrator.slate.select import Slate, select

MOST_ATTEMPTS = 4
"""Slates that are tried before a page goes without sponsored slots."""


@dataclass(frozen=True, slots=True)
class SponsoredSlate:
    """A slate that may be shown as it is."""

    chosen: Int32
    """Candidates, earlier pages' slots included, in the order of the slots."""
    relaxed: tuple[str, ...]
    """Rules of the slate that gave way."""
    paid_by: Int32
    """Row of the campaign book that pays for each candidate's slot, or ``NOBODY`` ``[n]``."""
    propensity: Float64
    """Of each slot's candidate, given the slots above and what campaigns may not have."""
    chance_loss: Float64
    """What each slot adds less than the best that it could have had, ≥ 0."""
    refused: Int32
    """Candidates that could have no slot: the ledger refused their campaigns, or they would have
    cost the page too much."""
    organic_loss: float = 0.0
    """Share of the utility of the page without campaigns that they cost, in [0, 1]."""


class SlotHolder(Protocol):
    """Makes sponsored slots durable."""

    async def __call__(
        self, wanted: Sequence[WantedSlot], slate: SponsoredSlate
    ) -> list[Hold] | None:
        """What became of each slot that ``slate`` would show on this page; None: nobody answers."""
        ...


def _value(utility: Float32, chosen: Int32) -> float:
    gain = np.where(np.isfinite(utility), utility, 0.0)[chosen]
    return float(np.sum(gain / np.log2(np.arange(len(chosen)) + 2.0)))


def _without(candidates: SlateCandidates, those: Bool) -> SlateCandidates:
    blocked = those if candidates.blocked is None else candidates.blocked | those
    return replace(candidates, blocked=blocked)


def _as_if_nobody_paid(
    candidates: SlateCandidates, organic: Float32, prices: Float32
) -> SlateCandidates:
    boost = candidates.boost
    unpaid = None if boost is None else (boost - prices).astype(np.float32)
    return replace(
        candidates,
        utility=organic,
        boost=unpaid,
        sponsored=None,
        sponsor=None,
        sponsor_shown=None,
        campaign=None,
        campaign_room=None,
    )


class _Attempts:
    """Slates of one page, each without the campaigns that the ones before showed not to do."""

    def __init__(
        self,
        request: PageRequest,
        candidates: SlateCandidates,
        organic: Float32,
        rows: Int32,
        offers: Offers,
    ) -> None:
        self._request = request
        chance = request.surface.slate.temperature > 0
        self._draws = draws(request.request_id, request.slots) if chance else None
        self._candidates = candidates
        self._organic = organic
        self._rows = rows
        self._offers = offers
        self.paid_by = offers.paying_for(rows)
        self._refused: Bool = np.zeros(len(rows), bool)
        self._free_value: float | None = None

    def next_slate(self) -> Slate:
        if not self._refused.any():
            return self._selected(self._candidates)
        return self._selected(_without(self._candidates, self._refused))

    def _selected(self, candidates: SlateCandidates) -> Slate:
        return select(candidates, self._request.surface.slate, self._request.slots, self._draws)

    def sponsored(self, slate: Slate, loss: float = 0.0) -> SponsoredSlate:
        return SponsoredSlate(
            chosen=slate.chosen,
            relaxed=slate.relaxed,
            paid_by=self.paid_by,
            propensity=slate.propensity,
            chance_loss=slate.chance_loss,
            refused=np.flatnonzero(self._refused).astype(np.int32),
            organic_loss=loss,
        )

    def on_page(self, slate: Slate) -> Int32:
        """Sponsored positions of the page, earlier pages' left out."""
        page: Int32 = slate.chosen[self._request.offset :]
        paid: Int32 = page[self.paid_by[page] != NOBODY]
        return paid

    def loss(self, slate: Slate) -> float:
        if self._free_value is None:
            prices = self._offers.prices_of(self._rows)
            free = self._selected(_as_if_nobody_paid(self._candidates, self._organic, prices))
            self._free_value = _value(self._organic, free.chosen)
        if self._free_value <= 0:
            return 0.0
        return max(0.0, 1.0 - _value(self._organic, slate.chosen) / self._free_value)

    def refuse(self, campaign: int) -> None:
        self._refused |= self.paid_by == campaign

    def refuse_all(self) -> None:
        self._refused |= self.paid_by != NOBODY

    def dearest(self, paid: Int32) -> int:
        return int(self.paid_by[paid[int(np.argmin(self._organic[paid]))]])

    def wanted(self, paid: Int32) -> list[WantedSlot]:
        ids, campaign_ids = self._request.catalog.item_ids, self._offers.book.campaign_ids
        return [
            WantedSlot(ids[int(self._rows[i])], campaign_ids[int(self.paid_by[i])])
            for i in paid.tolist()
        ]

    def take_refusals(self, paid: Int32, holds: Sequence[Hold]) -> bool:
        """Leaves out who was refused; returns whether anybody was."""
        held = [i for i, hold in zip(paid.tolist(), holds, strict=True) if hold is Hold.HELD]
        for i, hold in zip(paid.tolist(), holds, strict=True):
            if hold is not Hold.HELD:
                self.refuse(int(self.paid_by[i]))
        # What a campaign has already been granted for this page, it keeps.
        self._refused[held] = False
        return len(held) < len(holds)


async def sponsored_slate(
    request: PageRequest,
    candidates: SlateCandidates,
    organic: Float32,
    rows: Int32,
    offers: Offers,
    hold: SlotHolder,
) -> SponsoredSlate:
    """Selects, and holds what is sponsored.

    Args:
        request: what was asked.
        candidates: as columns ``[n]``, with prices.
        organic: their utility to the user alone ``[n]``, by which losses are measured.
        rows: their catalog rows ``[n]``.
        offers: who pays for what.
        hold: asks the ledger.

    Returns:
        A slate whose sponsored slots on this page are durable; without any where the ledger did
        not answer, which the page's sources say.
    """
    attempts = _Attempts(request, candidates, organic, rows, offers)
    for _ in range(MOST_ATTEMPTS):
        slate = attempts.next_slate()
        paid = attempts.on_page(slate)
        if not len(paid):
            return attempts.sponsored(slate)
        loss = attempts.loss(slate)
        if loss > request.surface.campaigns.most_organic_loss:
            attempts.refuse(attempts.dearest(paid))
            continue
        shown = attempts.sponsored(slate, loss)
        holds = await hold(attempts.wanted(paid), shown)
        if holds is None:
            break
        if not attempts.take_refusals(paid, holds):
            return shown
    attempts.refuse_all()
    return attempts.sponsored(attempts.next_slate())
