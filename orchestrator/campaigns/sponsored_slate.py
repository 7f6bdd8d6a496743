"""The slate with its sponsored slots: no dearer than the policy allows, and durable before shown.

What campaigns cost is measured on every page that has them: the same candidates are ordered once
more as if nobody paid, and both orders are valued by the utility of their items, discounted by
rank as in nDCG. A page that would lose more than the policy's share goes without its dearest
campaign, and another, until it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, WantedSlot
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS, NOBODY, Int32, Offers
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.slate.candidates import Bool, Float32, SlateCandidates
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
    organic_loss: float = 0.0
    """Share of the utility of the page without campaigns that they cost, in [0, 1]."""


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
        mesh: Mesh,
        request: Admitted,
        candidates: SlateCandidates,
        organic: Float32,
        rows: Int32,
        offers: Offers,
    ) -> None:
        self._mesh = mesh
        self._request = request
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
        return select(candidates, self._request.surface.slate, self._request.slots)

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

    async def hold(self, paid: Int32) -> list[Hold] | None:
        ledger, request, book = self._mesh.ledger, self._request, self._offers.book
        assert ledger is not None
        ids = request.catalog.item_ids
        wanted = [
            WantedSlot(ids[int(self._rows[i])], book.campaign_ids[int(self.paid_by[i])])
            for i in paid.tolist()
        ]
        return await request.calls.ask(
            CAMPAIGNS,
            request.surface.source_timeout_s,
            lambda timeout_s: ledger.hold(
                request.request_id, request.message.user_id, wanted, timeout_s=timeout_s
            ),
        )

    def take_refusals(self, paid: Int32, holds: Sequence[Hold]) -> bool:
        """Leaves out who was refused; returns whether anybody was."""
        held = [i for i, hold in zip(paid.tolist(), holds, strict=True) if hold is Hold.HELD]
        for i, hold in zip(paid.tolist(), holds, strict=True):
            if hold is not Hold.HELD:
                self.refuse(int(self.paid_by[i]))
            if hold is Hold.SPENT:
                self._mesh.pacing.spent(self._offers.book, int(self.paid_by[i]))
        # What a campaign has already been granted for this page, it keeps.
        self._refused[held] = False
        return len(held) < len(holds)


async def sponsored_slate(
    mesh: Mesh,
    request: Admitted,
    candidates: SlateCandidates,
    organic: Float32,
    rows: Int32,
    offers: Offers,
) -> SponsoredSlate:
    """Selects, and holds what is sponsored.

    Args:
        mesh: whose ledger is asked.
        request: what was asked.
        candidates: as columns ``[n]``, with prices.
        organic: their utility to the user alone ``[n]``, by which losses are measured.
        rows: their catalog rows ``[n]``.
        offers: who pays for what.

    Returns:
        A slate whose sponsored slots on this page are durable; without any where the ledger did
        not answer, which the page's sources say.
    """
    attempts = _Attempts(mesh, request, candidates, organic, rows, offers)
    for _ in range(MOST_ATTEMPTS):
        slate = attempts.next_slate()
        paid = attempts.on_page(slate)
        if not len(paid):
            return SponsoredSlate(slate.chosen, slate.relaxed, attempts.paid_by)
        loss = attempts.loss(slate)
        if loss > request.surface.campaigns.most_organic_loss:
            attempts.refuse(attempts.dearest(paid))
            continue
        holds = await attempts.hold(paid)
        if holds is None:
            break
        if not attempts.take_refusals(paid, holds):
            return SponsoredSlate(slate.chosen, slate.relaxed, attempts.paid_by, loss)
    attempts.refuse_all()
    slate = attempts.next_slate()
    return SponsoredSlate(slate.chosen, slate.relaxed, attempts.paid_by)
