"""Affinity: what suits the user, whatever they asked."""

from __future__ import annotations

from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput


def affinity(candidates: ObjectiveInput) -> Float32:
    """The opinion of the models of the user alone ``[n]``, in [0, 1]; 0 where they have none.

    Where there is no query, relevance is that opinion already.
    """
    return candidates.affinity
