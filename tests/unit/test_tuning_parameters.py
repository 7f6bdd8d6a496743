"""What a study suggests, and the policy that a point of it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.offline.tuning.parameters import Parameters, SearchSpace
from recmesh.orchestrator.operating_point import OperatingPoint
from recmesh.orchestrator.policy import Policy

FEED = Policy.load().surfaces["feed"]
SCORERS = ("cf", "nlp", "popular")
SPACE = SearchSpace(SCORERS, FEED.half_life_days, interests=True, paid=True)


def suggested(space: SearchSpace, values: Mapping[str, float]) -> Parameters:
    return space.suggested(optuna.trial.FixedTrial(dict(values)))  # type: ignore[arg-type]


@given(
    weights=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=3, max_size=3).filter(any),
    strength=st.floats(0, 0.8),
    calibration=st.floats(0, 0.5),
    price=st.floats(0, 1),
)
def test_a_study_can_start_at_a_point(
    weights: list[float], strength: float, calibration: float, price: float
) -> None:
    point = replace(
        Parameters.of(FEED, SCORERS),
        model_weights=dict(zip(SCORERS, weights, strict=True)),
        diversity_strength=strength,
        calibration_weight=calibration,
        largest_price=price,
    )
    found = suggested(SPACE, SPACE.as_trial(point))
    largest = max(weights)
    assert found.model_weights == pytest.approx(
        {name: weight / largest for name, weight in point.model_weights.items()}
    )
    assert found.diversity_strength == pytest.approx(strength)
    assert found.calibration_weight == pytest.approx(calibration)
    assert found.largest_price == pytest.approx(price)
    assert found.objective_weights == pytest.approx(point.objective_weights)


def test_what_is_not_searched_is_left_alone() -> None:
    space = replace(SPACE, interests=False, paid=False)
    found = space.within(Parameters.of(FEED, SCORERS))
    assert found.calibration_weight == 0.0
    assert found.largest_price is None
    assert "campaigns" not in found.overrides()


def test_objectives_that_are_not_tuned_keep_their_weight_against_relevance() -> None:
    weighed = FEED.model_copy(
        update={"objective_weights": {"relevance": 0.5, "freshness": 0.1, "campaign": 0.2}}
    )
    start = Parameters.of(weighed, SCORERS)
    assert (start.objective_weights, start.kept_weights) == (
        {"freshness": 0.2, "novelty": 0.0},
        {"campaign": 0.4},
    )
    space = replace(SPACE, kept_weights=start.kept_weights)
    values = space.as_trial(start) | {"objective freshness": 0.3, "objective novelty": 0.3}
    weights = suggested(space, values).overrides()["objective_weights"]
    assert weights == {"relevance": 0.5, "freshness": 0.15, "novelty": 0.15, "campaign": 0.2}
    again = Parameters.at(point(objective_weights=weights), weighed)
    assert again.kept_weights == start.kept_weights
    assert again.all_objective_weights == pytest.approx(weights)


def point(**fields: Any) -> OperatingPoint:
    made: dict[str, Any] = {
        "metrics": {"ndcg": 0.2, "diversity": 0.5},
        "model_weights": {"cf": 1.0},
        "objective_weights": {"relevance": 1.0},
        "half_life_days": 3.0,
        "diversity_strength": 0.1,
    }
    return OperatingPoint(**made | fields)


def test_a_preference_takes_everything_that_its_point_was_measured_with() -> None:
    tuned = FEED.model_copy(
        update={"front": (point(calibration_weight=0.3, largest_price=0.125),)}
    ).at({"relevance": 1.0})
    assert tuned.slate.calibration_weight == 0.3
    assert tuned.campaigns.largest_price == 0.125
    assert tuned.campaigns.most_organic_loss == FEED.campaigns.most_organic_loss


def test_a_point_without_delivery_keeps_the_bound_on_prices() -> None:
    tuned = FEED.model_copy(update={"front": (point(),)}).at({"relevance": 1.0})
    assert tuned.campaigns == FEED.campaigns
    assert tuned.slate.calibration_weight == 0.0
