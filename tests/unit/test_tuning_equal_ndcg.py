from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.offline.tuning.equal_ndcg import at_equal_ndcg, most_at
from recmesh.offline.tuning.front import HypervolumeBootstrap


def test_two_points_are_mixed_where_that_gives_more() -> None:
    points = np.array([[0.2, 0.9], [0.4, 0.5], [0.3, 0.4]])
    assert most_at(points, 0.3) == pytest.approx(0.7)
    assert most_at(points, 0.4) == pytest.approx(0.5)
    assert most_at(points, 0.1) == pytest.approx(0.9)
    assert most_at(points, 0.41) == 0.0


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_it_is_the_best_mixture_of_any_two(seed: int, n: int) -> None:
    points = np.random.default_rng(seed).integers(0, 9, (n, 2)) / 8.0
    shares = np.linspace(0.0, 1.0, 57)[:, None, None, None]  # of eighths' differences, too
    mixed = (shares * points[:, None] + (1 - shares) * points).reshape(-1, 2)
    enough = mixed[:, 0] >= 0.5 - 1e-9
    best = mixed[enough, 1].max() if enough.any() else 0.0
    assert best <= most_at(points, 0.5) + 1e-9
    assert most_at(points, 0.5) <= best + 1 / 56


def test_gain_is_read_where_the_rivals_ndcg_is_best() -> None:
    users = 50
    tuned = np.broadcast_to(np.array([[[0.5, 0.3]], [[0.3, 0.7]]]), (2, users, 2))
    rival = np.broadcast_to(np.array([[[0.4, 0.4]], [[0.2, 0.9]]]), (2, users, 2))
    (found,) = at_equal_ndcg(
        tuned, rival, ("ndcg", "diversity"), HypervolumeBootstrap(users, 20, 0)
    ).values()
    assert found.theirs == pytest.approx(0.4)
    assert [found.gain.value, found.gain.low, found.gain.high] == pytest.approx([0.1] * 3)


def test_a_front_that_does_not_reach_the_ndcg_has_nothing_there() -> None:
    tuned = np.full((1, 30, 2), 0.2)
    rival = np.full((1, 30, 2), 0.3)
    found = at_equal_ndcg(tuned, rival, ("ndcg", "novelty"), HypervolumeBootstrap(30, 10, 0))
    assert found["novelty"].gain.value == pytest.approx(-0.3)
