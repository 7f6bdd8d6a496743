"""Novelty: what few have seen."""

from __future__ import annotations

from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput


def novelty(candidates: ObjectiveInput) -> Float32:
    """Self-information of the item's popularity ``[n]``, in [0, 1] (Vargas & Castells 2011)."""
    return candidates.catalog.novelty[candidates.rows]
