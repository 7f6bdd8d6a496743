"""Campaign: what an impression is worth to the sponsor who would pay for it."""

from __future__ import annotations

from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput


def campaign(candidates: ObjectiveInput) -> Float32:
    """Worth of the paying campaign against others ``[n]``, in [0, 1]; 0 where none may pay.

    It tells campaigns apart where slots are short; delivery is the prices' business
    (:mod:`recmesh.orchestrator.campaigns.pacing`).
    """
    return candidates.campaign_worth
