from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recmesh.offline.tuning.front import HypervolumeBootstrap, hypervolume, non_dominated
from recmesh.offline.tuning.operating_point import chosen_point
from recmesh.storage.errors import ConfigurationError

POINTS = np.array([[0.20, 0.50], [0.19, 0.70], [0.10, 0.80], [0.15, 0.60]])
METRICS = ("ndcg", "diversity")


def test_what_another_point_beats_is_not_on_the_front() -> None:
    assert non_dominated(POINTS).tolist() == [0, 1, 2]
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_hypervolume_by_hand() -> None:
    # Rectangles from the right: 0.1 x 0.8, 0.09 x 0.7, 0.01 x 0.5.
    assert hypervolume(POINTS) == pytest.approx(0.08 + 0.063 + 0.005)
    assert hypervolume(np.empty((0, 2))) == 0.0


@given(hnp.arrays(np.float64, (6, 2), elements=st.floats(0, 1)))
def test_dominated_points_add_no_volume(points: np.ndarray) -> None:
    assert hypervolume(points) == pytest.approx(hypervolume(points[non_dominated(points)]))


def test_intervals_hold_the_volume_and_a_front_is_no_better_than_itself() -> None:
    values = np.random.default_rng(0).random((3, 50, 2))
    bootstrap = HypervolumeBootstrap(50, 100, 0)
    volume = bootstrap.volume(values)
    assert volume.low <= volume.value <= volume.high
    nothing = bootstrap.difference(values, values)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    better = bootstrap.difference(values, values * 0.5)
    assert better.low > 0


@pytest.mark.parametrize(
    ("rule", "point"),
    [
        ("knee", 1),
        ("ndcg>=0.98*best, maximize diversity", 0),
        ("ndcg >= 0.9 * best , maximise diversity", 1),
        ("ndcg>=0.1, maximize diversity", 2),
        ("diversity>=0.6, maximize ndcg", 1),
    ],
)
def test_a_rule_chooses_a_point(rule: str, point: int) -> None:
    assert chosen_point(rule, POINTS, METRICS) == point


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("best", "cannot be read"),
        ("fame>=0.5*best, maximize ndcg", "unknown metric fame"),
        ("ndcg>=0.5*best, maximize fame", "unknown metric fame"),
        ("ndcg>=0.9, maximize diversity", "no point has ndcg of 0.9000; the most is 0.2000"),
    ],
)
def test_a_rule_that_cannot_be_met_says_why(rule: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        chosen_point(rule, POINTS, METRICS)
