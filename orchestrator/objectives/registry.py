"""The objectives a policy may weigh. Adding one is a file and an entry.

Each maps the candidates to float32 values in [0, 1], ``[n_candidates]``, and depends on
each candidate alone, never on which others are there. NaN keeps a candidate off the page.
"""

from __future__ import annotations

from collections.abc import Callable

from recmesh.orchestrator.objectives.affinity import affinity
from recmesh.orchestrator.objectives.campaign import campaign
from recmesh.orchestrator.objectives.freshness import freshness
from recmesh.orchestrator.objectives.novelty import novelty
from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput
from recmesh.orchestrator.objectives.relevance import relevance

OBJECTIVES: dict[str, Callable[[ObjectiveInput], Float32]] = {
    "relevance": relevance,
    "affinity": affinity,
    "freshness": freshness,
    "novelty": novelty,
    "campaign": campaign,
}
"""Objective id to its function."""
