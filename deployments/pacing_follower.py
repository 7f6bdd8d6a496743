"""Keeps an orchestrator's prices of campaigns as the ledger moves them."""

from __future__ import annotations

from recmesh.deployments.following import catch_up, follow
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignLedger
from recmesh.orchestrator.campaigns.pacing_board import PacingBoard

POLL_S = 1.0
READ_TIMEOUT_S = 2.0


class PacingFollower:
    """Asks for prices for ever. Belongs to one event loop."""

    def __init__(self, ledger: CampaignLedger, board: PacingBoard) -> None:
        self._ledger = ledger
        self._board = board

    async def catch_up(self, patience_s: float) -> None:
        """Waits until prices are known, or for ``patience_s`` seconds."""
        await catch_up(self._take, "prices of campaigns", POLL_S, patience_s)

    async def run(self) -> None:
        """Follows for ever; cancel to end. While nobody answers, the last prices serve."""
        await follow(self._take, "prices of campaigns", POLL_S)

    async def _take(self) -> None:
        self._board.post(await self._ledger.read_pacing(timeout_s=READ_TIMEOUT_S))
