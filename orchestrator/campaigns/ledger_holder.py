"""Holds a page's sponsored slots with the ledger, within the page's deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.answer import empty_page
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, HoldAttempt, WantedSlot
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate
from recmesh.orchestrator.decisions.decision import Considered, Decision
from recmesh.orchestrator.decisions.decision_record import sealed
from recmesh.orchestrator.mesh import Mesh
from recmesh.v1 import decision_log_pb2


@dataclass(slots=True)
class LedgerHolder:
    """One page's way to the ledger. The page's record goes with its slots."""

    mesh: Mesh
    request: Admitted
    considered: Considered
    attempts: list[HoldAttempt] = field(default_factory=list)
    """What became of what was asked so far."""

    @property
    def recorded(self) -> bool:
        """Whether the page's record is durable, with its sponsored slots."""
        return self.mesh.decisions is not None and bool(self.attempts) and self.attempts[-1].granted

    async def __call__(
        self, wanted: Sequence[WantedSlot], slate: SponsoredSlate
    ) -> list[Hold] | None:
        """See :class:`~recmesh.orchestrator.campaigns.sponsored_slate.SlotHolder`."""
        ledger, request = self.mesh.ledger, self.request
        assert ledger is not None
        decision = self._sealed(wanted, slate)
        holds = await request.calls.ask(
            CAMPAIGNS,
            request.surface.source_timeout_s,
            lambda timeout_s: ledger.hold(
                request.request_id,
                request.message.user_id,
                wanted,
                timeout_s=timeout_s,
                decision=decision,
            ),
        )
        self.attempts.append(HoldAttempt(wanted, holds))
        book = self.considered.offers.book
        for slot, hold in zip(wanted, holds or (), strict=False):
            if hold is Hold.SPENT:
                self.mesh.pacing.spent(book, book.row_of[slot.campaign_id])
        return holds

    def _sealed(
        self, wanted: Sequence[WantedSlot], slate: SponsoredSlate
    ) -> decision_log_pb2.SealedDecision | None:
        """The record as it is when all slots are held: it is kept in no other case."""
        if self.mesh.decisions is None:
            return None
        granted = HoldAttempt(wanted, [Hold.HELD] * len(wanted))
        attempts = [*self.attempts, granted]
        return sealed(Decision(self.considered, attempts, slate, empty_page(self.request)))
