"""Holds a page's sponsored slots with the ledger, within the page's deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, WantedSlot
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS, Offers
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate
from recmesh.orchestrator.mesh import Mesh


@dataclass(frozen=True, slots=True)
class HoldAttempt:
    """What was asked of the ledger for one slate, and what it said."""

    wanted: Sequence[WantedSlot]
    holds: Sequence[Hold] | None
    """One for each; None: nobody answered in time."""


@dataclass(slots=True)
class LedgerHolder:
    """One page's way to the ledger."""

    mesh: Mesh
    request: Admitted
    offers: Offers
    attempts: list[HoldAttempt] = field(default_factory=list)
    """What became of what was asked so far."""

    async def __call__(
        self, wanted: Sequence[WantedSlot], slate: SponsoredSlate
    ) -> list[Hold] | None:
        """See :class:`~recmesh.orchestrator.campaigns.sponsored_slate.SlotHolder`."""
        ledger, request = self.mesh.ledger, self.request
        assert ledger is not None
        holds = await request.calls.ask(
            CAMPAIGNS,
            request.surface.source_timeout_s,
            lambda timeout_s: ledger.hold(
                request.request_id, request.message.user_id, wanted, timeout_s=timeout_s
            ),
        )
        self.attempts.append(HoldAttempt(wanted, holds))
        for slot, hold in zip(wanted, holds or (), strict=False):
            if hold is Hold.SPENT:
                book = self.offers.book
                self.mesh.pacing.spent(book, book.row_of[slot.campaign_id])
        return holds
