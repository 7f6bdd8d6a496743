"""The ledger of sponsored slots in memory: an adapter of the port for tests of what asks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing, Hold, WantedSlot
from recmesh.storage.errors import RecMeshError
from recmesh.v1.decision_log_pb2 import SealedDecision


class MemoryLedger:
    """Grants what budgets and caps leave; may be told to fail."""

    def __init__(self, budgets: dict[str, int], *, cap: int = 1000) -> None:
        self.budgets = budgets
        self.cap = cap
        self.held: dict[tuple[str, str], tuple[str, str]] = {}
        """User and campaign of every slot, by request and item."""
        self.asked = 0
        self.decisions: dict[bytes, bytes] = {}
        self.failure: RecMeshError | None = None

    async def hold(
        self,
        request_id: str,
        user_id: str,
        slots: Sequence[WantedSlot],
        *,
        timeout_s: float,
        decision: SealedDecision | None = None,
    ) -> list[Hold]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        holds = [self._hold(request_id, user_id, slot) for slot in slots]
        if decision is not None and all(hold is Hold.HELD for hold in holds):
            self.decisions[decision.decision_id] = decision.record
        return holds

    def _hold(self, request_id: str, user_id: str, slot: WantedSlot) -> Hold:
        key, campaign = (request_id, slot.item_id), slot.campaign_id
        if key in self.held:
            return Hold.HELD
        if campaign not in self.budgets:
            return Hold.NOT_RUNNING
        if self._of_campaign()[campaign] >= self.budgets[campaign]:
            return Hold.SPENT
        if Counter(self.held.values())[user_id, campaign] >= self.cap:
            return Hold.CAPPED
        self.held[key] = user_id, campaign
        return Hold.HELD

    def _of_campaign(self) -> Counter[str]:
        return Counter(campaign for _, campaign in self.held.values())

    async def read_pacing(self, *, timeout_s: float) -> list[CampaignPacing]:
        held = self._of_campaign()
        return [CampaignPacing(i, 0.0, budget - held[i]) for i, budget in self.budgets.items()]

    async def close(self) -> None:
        pass
