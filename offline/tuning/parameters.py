"""What a trial may choose for a surface, and how that reads as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import optuna

from recmesh.orchestrator.objectives.freshness import EVERY_OTHER_TYPE
from recmesh.orchestrator.operating_point import OperatingPoint
from recmesh.orchestrator.policy import SurfacePolicy

SEARCH_SPACE = 3
"""Changes with what is searched: studies of another space are not gone on with."""
SMALLEST_WEIGHT = 1e-3
"""Of a model; what is suggested at it is 0."""
LARGEST_OBJECTIVE = 0.5
"""Weight of an objective against relevance's 1."""
LARGEST_STRENGTH = 0.8
"""Of diversity. This and the next two are searched by their square root: small values matter."""
LARGEST_CALIBRATION = 0.5
LARGEST_PRICE = 1.0
HALF_LIVES_DAYS = (1.0, 120.0)
TUNED_OBJECTIVES = ("freshness", "novelty")


@dataclass(frozen=True)
class Parameters:
    """One point of the search space."""

    model_weights: Mapping[str, float]
    """By scorer, ≥ 0."""
    objective_weights: Mapping[str, float]
    """Of :data:`TUNED_OBJECTIVES`, against relevance's 1."""
    half_life_days: float
    """Of freshness, of content types that the policy does not name."""
    diversity_strength: float
    calibration_weight: float = 0.0
    """Of the match with interests."""
    largest_price: float | None = None
    """Utility that the price of every paying campaign adds: pages are filled at the bound that
    the policy sets to prices. None: delivery is not tuned."""
    half_lives_days: Mapping[str, float] = field(default_factory=dict)
    """Of freshness, by content type, as in the policy."""
    kept_weights: Mapping[str, float] = field(default_factory=dict)
    """Of objectives that are not tuned, against relevance's 1, as in the policy."""

    @classmethod
    def of(cls, surface: SurfacePolicy, scorers: tuple[str, ...]) -> Parameters:
        """What a policy says, over the scorers that there are."""
        tuned, kept = _against_relevance(surface.objective_weights)
        return cls(
            model_weights={name: surface.model_weights.get(name, 0.0) for name in scorers},
            objective_weights=tuned,
            half_life_days=surface.half_life_days[EVERY_OTHER_TYPE],
            diversity_strength=surface.slate.diversity_strength,
            calibration_weight=surface.slate.calibration_weight,
            largest_price=surface.campaigns.largest_price,
            half_lives_days=surface.half_life_days,
            kept_weights=kept,
        )

    @classmethod
    def at(cls, point: OperatingPoint, surface: SurfacePolicy) -> Parameters:
        """What a point of the surface's front says."""
        tuned, kept = _against_relevance(point.objective_weights)
        return cls(
            model_weights=point.model_weights,
            objective_weights=tuned,
            half_life_days=point.half_life_days,
            diversity_strength=point.diversity_strength,
            calibration_weight=point.calibration_weight,
            largest_price=point.largest_price,
            half_lives_days={**surface.half_life_days, EVERY_OTHER_TYPE: point.half_life_days},
            kept_weights=kept,
        )

    @property
    def all_objective_weights(self) -> dict[str, float]:
        """By objective, summing to 1."""
        weights = {"relevance": 1.0, **self.objective_weights, **self.kept_weights}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def overrides(self) -> dict[str, Any]:
        """The surface's keys in a policy that say the same, weights summing to 1."""
        models = sum(self.model_weights.values())
        return {
            "model_weights": {n: round(w / models, 4) for n, w in self.model_weights.items()},
            "objective_weights": {n: round(w, 4) for n, w in self.all_objective_weights.items()},
            "half_life_days": {EVERY_OTHER_TYPE: round(self.half_life_days, 2)},
            "slate": {
                "diversity_strength": round(self.diversity_strength, 4),
                "calibration_weight": round(self.calibration_weight, 4),
            },
            **(
                {}
                if self.largest_price is None
                else {"campaigns": {"largest_price": round(self.largest_price, 4)}}
            ),
        }


def _against_relevance(
    weights: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    """Weights of the objectives that are tuned, and of those that are kept, where relevance's
    is 1."""
    relevance = weights.get("relevance", 0.0) or 1e-9
    relative = {name: weight / relevance for name, weight in weights.items() if name != "relevance"}
    tuned = {name: relative.pop(name, 0.0) for name in TUNED_OBJECTIVES}
    return tuned, {name: weight for name, weight in relative.items() if weight > 0}


@dataclass(frozen=True)
class SearchSpace:
    """What a study may suggest for a surface."""

    scorers: tuple[str, ...]
    half_lives_days: Mapping[str, float]
    """Of freshness, by content type, as in the policy."""
    interests: bool
    """Whether anybody's are known, so that the match with them is worth a parameter."""
    paid: bool
    """Whether delivery is tuned."""
    kept_weights: Mapping[str, float] = field(default_factory=dict)
    """Of objectives that are not tuned, against relevance's 1, as in the policy."""

    def suggested(self, trial: optuna.Trial) -> Parameters:
        """What a study's sampler suggests."""

        def weight(scorer: str) -> float:
            drawn = trial.suggest_float(f"model {scorer}", SMALLEST_WEIGHT, 1.0, log=True)
            return drawn if drawn > SMALLEST_WEIGHT else 0.0

        def squared(name: str, largest: float) -> float:
            return trial.suggest_float(f"root of {name}", 0.0, sqrt(largest)) ** 2

        half_life = trial.suggest_float("half-life", *HALF_LIVES_DAYS, log=True)
        weights = {name: weight(name) for name in self.scorers}
        return Parameters(
            # No opinion at all is all opinions alike.
            model_weights=weights if any(weights.values()) else dict.fromkeys(weights, 1.0),
            objective_weights={
                name: trial.suggest_float(f"objective {name}", 0.0, LARGEST_OBJECTIVE)
                for name in TUNED_OBJECTIVES
            },
            half_life_days=half_life,
            diversity_strength=squared("diversity", LARGEST_STRENGTH),
            calibration_weight=squared("interests", LARGEST_CALIBRATION) if self.interests else 0.0,
            largest_price=squared("price", LARGEST_PRICE) if self.paid else None,
            half_lives_days={**self.half_lives_days, EVERY_OTHER_TYPE: half_life},
            kept_weights=self.kept_weights,
        )

    def as_trial(self, parameters: Parameters) -> dict[str, float]:
        """The values under the names that :meth:`suggested` asks for, within its bounds."""
        low, high = HALF_LIVES_DAYS
        largest = max(parameters.model_weights.values(), default=1.0) or 1.0

        def root(value: float, bound: float) -> float:
            return min(sqrt(value), sqrt(bound))

        values = {
            "half-life": min(max(parameters.half_life_days, low), high),
            "root of diversity": root(parameters.diversity_strength, LARGEST_STRENGTH),
        }
        if self.interests:
            values["root of interests"] = root(parameters.calibration_weight, LARGEST_CALIBRATION)
        if self.paid:
            values["root of price"] = root(parameters.largest_price or 0.0, LARGEST_PRICE)
        for name, weight in parameters.model_weights.items():
            values[f"model {name}"] = min(max(weight / largest, SMALLEST_WEIGHT), 1.0)
        for name, weight in parameters.objective_weights.items():
            values[f"objective {name}"] = min(weight, LARGEST_OBJECTIVE)
        return values

    def within(self, parameters: Parameters) -> Parameters:
        """The point as a study tries it: within bounds, and nothing that is not tuned."""
        values = self.as_trial(parameters)
        return self.suggested(
            optuna.trial.FixedTrial(values)  # type: ignore[arg-type] # asks the same way
        )
