"""Relevance: what the models expect the user to want."""

from __future__ import annotations

from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput


def relevance(candidates: ObjectiveInput) -> Float32:
    """The models' blended opinion ``[n]``, in [0, 1]."""
    return candidates.relevance
