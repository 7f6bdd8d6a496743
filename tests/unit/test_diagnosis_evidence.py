"""The statistics under every finding."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from recmesh.offline.diagnosis.checks.filter_bubble import unlike_pairs
from recmesh.offline.diagnosis.evidence import Bounds, Rows, jackknife, measure, over, ratio
from recmesh.offline.diagnosis.finding import Measured, TooFew
from tests.tiny_serving_log import Size, tiny_log

values = st.lists(st.floats(-100, 100), min_size=3, max_size=40)


@given(values)
def test_the_jackknife_of_a_mean_is_its_standard_error(found: list[float]) -> None:
    sums = np.array([[value, 1.0] for value in found])
    estimate = jackknife((sums,), ratio())
    assert estimate is not None
    assert estimate.value == pytest.approx(np.mean(found), abs=1e-9)
    assert estimate.error == pytest.approx(stats.sem(found), abs=1e-9)


@given(values)
def test_the_jackknife_of_a_total_has_the_totals_error(found: list[float]) -> None:
    estimate = jackknife((np.array(found)[:, None],), lambda sums: sums[..., 0])
    assert estimate is not None
    assert estimate.value == pytest.approx(np.sum(found), abs=1e-6)
    assert estimate.error == pytest.approx(len(found) * stats.sem(found), abs=1e-6)


def test_two_groups_are_too_few_to_tell() -> None:
    assert jackknife((np.ones((2, 2)),), ratio()) is None


def test_the_jackknife_takes_out_the_bias_of_a_square() -> None:
    rng = np.random.default_rng(0)
    plain, without = [], []
    for _ in range(400):
        sums = np.stack([rng.standard_normal(20), np.ones(20)], axis=1)
        estimate = jackknife((sums,), lambda s: (s[..., 0] / s[..., 1]) ** 2)
        assert estimate is not None
        plain.append(sums[:, 0].mean() ** 2)
        without.append(estimate.value)
    # The square of a mean is 1/20 too large on average.
    assert np.mean(plain) == pytest.approx(0.05, abs=0.015)
    assert np.mean(without) == pytest.approx(0.0, abs=0.015)


def test_nothing_is_found_more_often_than_said_where_doctors_differ() -> None:
    """Slots of a doctor are alike: errors over slots would find far too much."""
    log = tiny_log(size=Size(doctors=120))
    rng = np.random.default_rng(1)
    bounds = Bounds(0.5, 0.9, "above")
    p = []
    for _ in range(200):
        of_doctor = rng.beta(1, 1, 120)
        doctor = rng.integers(0, 120, 1200)
        hits = rng.random(1200) < of_doctor[doctor]
        rows = Rows(
            doctor,
            np.full(1200, log.start_unix_s),
            np.zeros(1200, np.int64),
            np.stack([hits, np.ones(1200)], axis=1).astype(np.float64),
        )
        found = measure(log, rows, ratio(), bounds, sliced=False)
        assert isinstance(found, Measured)
        p.append(found.p)
    # 200 runs at 0.05: at most 18 in 99% of the time.
    assert np.sum(np.array(p) <= 0.05) <= stats.binom.isf(0.005, 200, 0.05)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_few_doctors_are_too_few() -> None:
    log = tiny_log()
    rows = Rows(np.arange(1000) % 29, np.zeros(1000), np.zeros(1000, np.int64), np.ones((1000, 2)))
    found = measure(log, rows, ratio(), Bounds(0.5, 0.9, "above"))
    assert isinstance(found, TooFew)
    assert "29 doctors" in found.why


def test_what_is_over_nothing_is_not_a_number() -> None:
    assert np.isnan(over(1.0, 0.0))
    assert over(np.array([1.0, 2.0]), 4.0).tolist() == [0.25, 0.5]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12))
def test_unlike_pairs_counts_pairs(topics: list[int]) -> None:
    shares = sparse.csr_matrix(np.eye(4)[topics])
    found = unlike_pairs(np.zeros(len(topics), np.int64), shares, 1)[0]
    pairs = list(combinations(topics, 2))
    assert found == pytest.approx(np.mean([a != b for a, b in pairs]))


def test_unlike_pairs_has_no_bias_of_few_slots() -> None:
    rng = np.random.default_rng(0)
    truth = 1 - sum((count / 4) ** 2 for count in Counter([0, 0, 1, 2]).values())
    found = []
    for slots in (2, 3, 8):
        cell = np.repeat(np.arange(3000), slots)
        topics = np.array([0, 0, 1, 2])[rng.integers(0, 4, len(cell))]
        of_cells = unlike_pairs(cell, sparse.csr_matrix(np.eye(3)[topics]), 3000)
        found.append(np.mean(of_cells))
    assert found == pytest.approx([truth] * 3, abs=0.03)
