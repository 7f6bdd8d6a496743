"""What a trial may choose for a surface, and how that reads as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from recmesh.orchestrator.objectives.freshness import EVERY_OTHER_TYPE
from recmesh.orchestrator.operating_point import OperatingPoint
from recmesh.orchestrator.policy import SurfacePolicy

SMALLEST_WEIGHT = 1e-3
LARGEST_OBJECTIVE = 0.5
"""Weight of an objective against relevance's 1."""
LARGEST_STRENGTH = 0.8
HALF_LIVES_DAYS = (1.0, 120.0)
TUNED_OBJECTIVES = ("freshness", "novelty")


@dataclass(frozen=True)
class Parameters:
    """One point of the search space."""

    model_weights: Mapping[str, float]
    """By scorer, > 0."""
    objective_weights: Mapping[str, float]
    """By objective beside relevance, whose weight is 1."""
    half_life_days: float
    """Of freshness, of content types that the policy does not name."""
    diversity_strength: float
    campaign_weight: float = 0.0
    """Utility that the worth of a paying campaign adds."""
    half_lives_days: Mapping[str, float] = field(default_factory=dict)
    """Of freshness, by content type, as in the policy."""

    @classmethod
    def of(cls, surface: SurfacePolicy, scorers: tuple[str, ...]) -> Parameters:
        """What a policy says, over the scorers that there are."""
        weights = surface.objective_weights
        relevance = weights.get("relevance", 0.0) or 1e-9
        return cls(
            model_weights={name: surface.model_weights.get(name, 0.0) for name in scorers},
            objective_weights={
                name: weights.get(name, 0.0) / relevance for name in TUNED_OBJECTIVES
            },
            half_life_days=surface.half_life_days[EVERY_OTHER_TYPE],
            diversity_strength=surface.slate.diversity_strength,
            half_lives_days=surface.half_life_days,
        )

    @classmethod
    def at(cls, point: OperatingPoint, surface: SurfacePolicy) -> Parameters:
        """What a point of the surface's front says."""
        relevance = point.objective_weights.get("relevance", 1.0) or 1e-9
        return cls(
            model_weights=point.model_weights,
            objective_weights={
                name: weight / relevance
                for name, weight in point.objective_weights.items()
                if name != "relevance"
            },
            half_life_days=point.half_life_days,
            diversity_strength=point.diversity_strength,
            half_lives_days={**surface.half_life_days, EVERY_OTHER_TYPE: point.half_life_days},
        )

    @classmethod
    def suggested(
        cls, trial: optuna.Trial, scorers: tuple[str, ...], surface: SurfacePolicy, paid: bool
    ) -> Parameters:
        """What a study's sampler suggests; ``paid`` says whether campaigns are to be weighed."""
        half_life = trial.suggest_float("half-life", *HALF_LIVES_DAYS, log=True)
        return cls(
            model_weights={
                name: trial.suggest_float(f"model {name}", SMALLEST_WEIGHT, 1.0, log=True)
                for name in scorers
            },
            objective_weights={
                name: trial.suggest_float(f"objective {name}", 0.0, LARGEST_OBJECTIVE)
                for name in TUNED_OBJECTIVES
            },
            half_life_days=half_life,
            diversity_strength=trial.suggest_float("diversity", 0.0, LARGEST_STRENGTH),
            campaign_weight=trial.suggest_float("campaign", 0.0, 1.0) if paid else 0.0,
            half_lives_days={**surface.half_life_days, EVERY_OTHER_TYPE: half_life},
        )

    def as_trial(self) -> dict[str, float]:
        """The values under the names that :meth:`suggested` asks for, within its bounds."""
        low, high = HALF_LIVES_DAYS
        largest = max(self.model_weights.values(), default=1.0) or 1.0
        return {
            "half-life": min(max(self.half_life_days, low), high),
            "diversity": min(self.diversity_strength, LARGEST_STRENGTH),
            "campaign": min(self.campaign_weight, 1.0),
            **{
                f"model {name}": min(max(weight / largest, SMALLEST_WEIGHT), 1.0)
                for name, weight in self.model_weights.items()
            },
            **{
                f"objective {name}": min(weight, LARGEST_OBJECTIVE)
                for name, weight in self.objective_weights.items()
            },
        }

    def overrides(self) -> dict[str, Any]:
        """The surface's keys in a policy that say the same, weights summing to 1."""
        models = sum(self.model_weights.values())
        objectives = {"relevance": 1.0, **self.objective_weights}
        total = sum(objectives.values())
        return {
            "model_weights": {n: round(w / models, 4) for n, w in self.model_weights.items()},
            "objective_weights": {n: round(w / total, 4) for n, w in objectives.items()},
            "half_life_days": {EVERY_OTHER_TYPE: round(self.half_life_days, 2)},
            "slate": {"diversity_strength": round(self.diversity_strength, 4)},
        }
