from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.offline.evaluation.calibration_fit import (
    MOST_KNOTS,
    SHOWN_RATE,
    as_shown,
    isotonic,
    pool_adjacent_violators,
)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_pooling_is_monotone_keeps_the_mean_and_projects_once(pairs) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    pooled = pool_adjacent_violators(values, weights)
    assert (np.diff(pooled) >= -1e-12).all()
    assert pooled @ weights == pytest.approx(values @ weights)
    np.testing.assert_allclose(pool_adjacent_violators(pooled, weights), pooled)


def test_pooling_by_hand() -> None:
    pooled = pool_adjacent_violators(np.array([0.1, 0.5, 0.3, 0.9]), np.array([1.0, 1, 3, 1]))
    np.testing.assert_allclose(pooled, [0.1, 0.35, 0.35, 0.9])


def test_a_known_curve_is_found_again() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 1, 200_000).astype(np.float32)
    truth = 0.3 / (1 + np.exp(-2 * (raw - 1)))
    wanted = rng.random(len(raw)) < truth
    found = isotonic(raw, wanted)
    assert found is not None
    at = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    expected = as_shown(0.3 / (1 + np.exp(-2 * (at - 1))), float(wanted.mean()))
    np.testing.assert_allclose(found(at), expected, atol=0.03)


@given(st.integers(0, 10_000), st.integers(2, 3_000))
def test_it_is_as_the_contract_wants_it(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=n).astype(np.float32)
    found = isotonic(raw, rng.random(n) < 0.1)
    if found is None:
        return
    assert 2 <= len(found.raw_scores) <= MOST_KNOTS
    assert (np.diff(found.raw_scores) > 0).all()
    assert (np.diff(found.probabilities) >= 0).all()
    assert 0 <= found.probabilities.min() <= found.probabilities.max() <= 1


def test_the_best_items_do_not_tie_and_the_base_rate_reads_as_shown() -> None:
    raw = np.linspace(0, 10, 5_000, dtype=np.float32)
    found = isotonic(raw, raw > np.random.default_rng(0).random(5_000) * 20)
    assert found is not None
    top = found(raw[-20:])
    assert (np.diff(top) > 0).all()
    assert as_shown(np.array([0.001]), 0.001)[0] == pytest.approx(SHOWN_RATE)


def test_nothing_to_learn_is_no_calibration() -> None:
    ones = np.ones(10, np.float32)
    assert isotonic(ones, ones > 0) is None
    assert isotonic(np.arange(10, dtype=np.float32), ones < 0) is None
