from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.operating_point import OperatingPoint, objectives_of, preferred_point

VALUES = [(0.20, 0.50), (0.19, 0.70), (0.10, 0.80)]
FRONT = [
    OperatingPoint(
        metrics={"ndcg": ndcg, "diversity": diversity},
        model_weights={"popular": 1.0},
        objective_weights={"relevance": 1.0},
        half_life_days=1.0,
        diversity_strength=0.0,
    )
    for ndcg, diversity in VALUES
]


def preferred(**preferences: float) -> tuple[float, float]:
    point = preferred_point(FRONT, preferences)
    return point.metrics["ndcg"], point.metrics["diversity"]


def test_the_objectives_are_those_of_the_metrics() -> None:
    assert objectives_of(FRONT) == {"relevance", "diversity"}


@pytest.mark.parametrize(
    ("preferences", "point"),
    [
        ({"relevance": 1.0}, VALUES[0]),
        ({"diversity": 1.0}, VALUES[2]),
        ({"relevance": 1.0, "diversity": 1.0}, VALUES[1]),
        ({"relevance": 0.5, "diversity": 0.5}, VALUES[1]),
    ],
)
def test_the_nearest_point_is_taken(
    preferences: dict[str, float], point: tuple[float, float]
) -> None:
    assert preferred(**preferences) == point


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_preference_never_gives_less(relevance: float, some: float, more: float) -> None:
    some, more = sorted((some, more))
    least = preferred(relevance=relevance, diversity=some)
    most = preferred(relevance=relevance, diversity=more)
    assert most[1] >= least[1]
