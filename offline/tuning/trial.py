"""One trial: parameters in, the metrics of every user's page out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recmesh.offline.tuning.batch_slate import fill
from recmesh.offline.tuning.candidates import Bool, Candidates, Float64
from recmesh.offline.tuning.metrics import METRICS, Pages
from recmesh.offline.tuning.parameters import Parameters, SearchSpace
from recmesh.orchestrator.blend import Float32, relevance, utility
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.policy import SurfacePolicy


@dataclass(frozen=True)
class TrialRun:
    """Fills pages for a surface: everything that no trial changes is worked out once."""

    candidates: Candidates
    surface: SurfacePolicy
    metrics: tuple[str, ...]
    slots: int = 10

    @cached_property
    def _own(self) -> Parameters:
        return Parameters.of(self.surface, self.candidates.scorers)

    @cached_property
    def _fresh(self) -> Float32:
        return self._objective("freshness", self._own)

    @cached_property
    def _unchanging(self) -> dict[str, Float32]:
        """Objectives that no trial changes."""
        names = ("novelty", *self._own.kept_weights)
        return {name: self._objective(name, self._own) for name in names}

    @cached_property
    def _worth(self) -> Float32:
        """Of campaigns that pay, as the objective sees it ``[users · width]``."""
        return np.where(self.paid, self.candidates.paid, np.float32(0)).ravel()

    def _objective(self, name: str, parameters: Parameters) -> Float32:
        nothing = np.zeros(self.candidates.rows.size, np.float32)
        return OBJECTIVES[name](
            ObjectiveInput(
                catalog=self.candidates.catalog,
                rows=self.candidates.flat_rows,
                relevance=nothing,
                affinity=nothing,
                campaign_worth=self._worth,
                now_unix_s=self.candidates.now_unix_s,
                half_life_days=parameters.half_lives_days,
            )
        )

    @cached_property
    def paid(self) -> Bool:
        """Whether a slot for the candidate is sponsored ``[users, width]``.

        None is where delivery is not asked for: campaigns then do not take part.
        """
        return np.asarray((self.candidates.paid > 0) & self.space.paid, np.bool_)

    @cached_property
    def space(self) -> SearchSpace:
        """What may be tuned here."""
        return SearchSpace(
            scorers=self.candidates.scorers,
            half_lives_days=self.surface.half_life_days,
            interests=self.candidates.interest_topics is not None,
            paid="delivery" in self.metrics,
            kept_weights=self._own.kept_weights,
        )

    def utilities(self, parameters: Parameters) -> Float64:
        """Blended as the orchestrator does ``[users, width]``."""
        columns = {
            "relevance": relevance(self.candidates.matrix, parameters.model_weights),
            "freshness": self._objective("freshness", parameters),
            **self._unchanging,
        }
        weights = parameters.all_objective_weights
        blended = utility([columns[name] for name in weights], list(weights.values()))
        blended = blended.reshape(self.candidates.rows.shape)
        return blended.astype(np.float64) + (parameters.largest_price or 0.0) * self.paid

    def pages(self, parameters: Parameters) -> Pages:
        """The pages that these parameters fill."""
        rules = self.surface.slate.model_copy(
            update={
                "diversity_strength": parameters.diversity_strength,
                "calibration_weight": parameters.calibration_weight,
            }
        )
        chosen = fill(self.candidates, self.utilities(parameters), self.paid, rules, self.slots)
        fresh = self._fresh.reshape(self.candidates.rows.shape).astype(np.float64)
        return Pages(self.candidates, chosen, fresh, self.paid)

    def __call__(self, parameters: Parameters) -> Float64:
        """The metrics of every user's page ``[users, metrics]``."""
        pages = self.pages(parameters)
        return np.stack([METRICS[name](pages) for name in self.metrics], axis=1)
