from __future__ import annotations

import numpy as np
import pytest

from recmesh.offline.evaluation.bootstrap import UserBootstrap


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = []
    for seed in range(200):
        found = UserBootstrap(80, 400, seed).mean(rng.exponential(2.0, 80))
        held.append(found.low <= 2.0 <= found.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_pairing_takes_out_what_both_share() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 200)
    better = base + 0.05 + rng.normal(0, 0.01, 200)
    bootstrap = UserBootstrap(200, 500, 0)
    paired = bootstrap.difference(better, base)
    assert paired.value == pytest.approx(better.mean() - base.mean())
    assert 0 < paired.low < 0.05 < paired.high + 0.01
    assert paired.high - paired.low < 0.01
    alone = bootstrap.mean(better)
    assert alone.high - alone.low > 0.1


def test_undefined_users_take_no_part_and_equal_seeds_agree() -> None:
    values = np.array([1.0, np.nan, 3.0])
    first, again = (UserBootstrap(3, 50, 7).mean(values) for _ in range(2))
    assert first == again
    assert first.value == 2.0
    assert 1.0 <= first.low <= first.high <= 3.0
    assert np.isnan(UserBootstrap(2, 10, 0).mean(np.array([np.nan, np.nan])).value)


def test_coverage_counts_distinct_items_within_its_interval() -> None:
    best = np.array([[0, 1], [1, 2], [1, -1], [0, 1]])
    found = UserBootstrap(4, 300, 0).coverage(best, 10)
    assert found.value == 0.3
    assert found.low < 0.3 < found.high
