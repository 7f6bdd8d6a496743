"""The port to the log of decisions."""

from __future__ import annotations

from typing import Protocol

from recmesh.orchestrator.decisions.decision import Decision


class DecisionKeeper(Protocol):
    """Where an orchestrator leaves its decisions. Belongs to one event loop."""

    def keep(self, decision: Decision) -> None:
        """Leaves a decision to be recorded, and never waits.

        When the log does not take them for long, the oldest are lost, which is counted and told.
        """
        ...

    async def find(self, request_id: str, *, timeout_s: float) -> list[Decision]:
        """The pages of a request, first page first; empty: none is recorded.

        What was kept a moment ago may not be there yet.

        Raises:
            UnavailableError: the log does not answer in time.
        """
        ...

    async def close(self) -> None:
        """Records what is left, as far as that can be done in a moment."""
        ...
