"""Keeps decisions in memory, as the log would have them."""

from __future__ import annotations

from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.decision_record import opened, sealed


class MemoryDecisions:
    """An adapter of the decision log's port."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def keep(self, decision: Decision) -> None:
        self.records[decision.considered.decision_id] = sealed(decision).record

    async def find(self, request_id: str, *, timeout_s: float) -> list[Decision]:
        decisions = [opened(record) for record in self.records.values()]
        of_request = [d for d in decisions if d.considered.request.request_id == request_id]
        return sorted(of_request, key=lambda d: d.considered.request.offset)

    async def close(self) -> None:
        pass
