from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.metrics.exposure import coverage, exposure


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


def test_a_pooled_statistic_lies_within_its_interval_and_its_bounds() -> None:
    shown = exposure(np.array([[0, 1], [1, 2], [1, -1], [0, 1]]), 10)
    found = UserBootstrap(4, 300, 0).pooled(shown, coverage, 0.0, 1.0)
    assert found.value == 0.3
    assert 0 <= found.low < 0.3 < found.high <= 1
    again = UserBootstrap(4, 300, 0).pooled(shown, coverage, 0.25, 0.35)
    assert (again.low, again.high) == (max(found.low, 0.25), min(found.high, 0.35))


def test_a_pooled_ratio_has_the_spread_of_its_resamples() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([rng.normal(3, 1, 400), rng.normal(2, 0.1, 400)], axis=1)
    found = UserBootstrap(400, 500, 0).pooled(
        sparse.csr_matrix(columns), lambda sums: sums[..., 0] / sums[..., 1], -np.inf, np.inf
    )
    assert found.value == pytest.approx(columns[:, 0].sum() / columns[:, 1].sum())
    # Nearly all of the spread is the numerator's: 1.96 / 2 / sqrt(400).
    assert (found.high - found.low) / 2 == pytest.approx(0.049, rel=0.15)


def test_a_statistic_without_a_value_has_no_interval() -> None:
    nothing = sparse.csr_matrix((3, 2))
    found = UserBootstrap(3, 20, 0).pooled(nothing, lambda sums: sums[..., 0] * np.nan, 0, 1)
    assert np.isnan([found.value, found.low, found.high]).all()
