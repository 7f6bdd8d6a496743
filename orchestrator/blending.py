"""Stage 5: calibrated scores become objectives, and these one utility a candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.blend import mixed_weights, organic_utility, relevance, utility
from recmesh.orchestrator.campaigns.offers import Offers
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.scoring import Scores

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Blended:
    """What the candidates are worth."""

    objectives: dict[str, Float32]
    """Value of every weighed objective ``[n]``, in [0, 1]."""
    weights: dict[str, float]
    """Of the same objectives; they sum to 1."""
    utility: Float32
    """Weighted sum ``[n]``; -inf for who is never shown."""

    @property
    def organic(self) -> Float32:
        """Utility to the user alone ``[n]``, by which campaigns' costs are measured."""
        return organic_utility(self.utility, self.objectives, self.weights)


def blend(request: PageRequest, rows: Int32, scores: Scores, offers: Offers) -> Blended:
    """Values the candidates at the catalog's ``rows`` ``[n]``."""
    surface = request.surface
    weights = mixed_weights(surface.objective_weights, request.preferences)
    seen = ObjectiveInput(
        catalog=request.catalog,
        rows=rows,
        relevance=relevance(scores.of_request, surface.model_weights),
        affinity=relevance(scores.of_user, surface.affinity_weights),
        campaign_worth=offers.worth_of(rows),
        now_unix_s=request.now_unix_s,
        half_life_days=surface.half_life_days,
    )
    objectives = {name: OBJECTIVES[name](seen) for name in weights}
    blended = utility(list(objectives.values()), list(weights.values()))
    return Blended(objectives, weights, blended)
