"""Every metric against cases that were worked out by hand, relevance against ir-measures."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG
from scipy import sparse

from recmesh.offline.metrics import relevance
from recmesh.offline.metrics.calibration import miscalibration_bits
from recmesh.offline.metrics.descriptions import DESCRIPTIONS
from recmesh.offline.metrics.diversity import ItemLikeness, jaccard, mean_pair_distance
from recmesh.offline.metrics.exposure import coverage, exposure, gini, inequity, lorenz
from recmesh.offline.metrics.novelty import self_information_bits, serendipity
from recmesh.offline.metrics.pages import page_mean, slot_mean
from recmesh.offline.metrics.popularity import lift, popularity_deviation, popularity_groups

NAN = float("nan")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_relevance_is_that_of_ir_measures(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((8, 20)), axis=1)
    wanted = rng.random((8, 20)) < 0.15
    wanted[~wanted.any(axis=1), 0] = True
    hits = np.take_along_axis(wanted, order[:, :k], axis=1)
    n_wanted = wanted.sum(axis=1)
    qrels = [
        ir_measures.Qrel(f"u{u}", f"i{i}", 1) for u, i in zip(*np.nonzero(wanted), strict=True)
    ]
    run = [
        ir_measures.ScoredDoc(f"u{u}", f"i{i}", float(-rank))
        for u in range(8)
        for rank, i in enumerate(order[u].tolist())
    ]
    measures = {
        nDCG @ k: relevance.ndcg(hits, n_wanted),
        R @ k: relevance.recall(hits, n_wanted),
        RR @ k: relevance.reciprocal_rank(hits, n_wanted),
        Success @ k: relevance.hit_rate(hits, n_wanted),
    }
    compared = 0
    for found in ir_measures.iter_calc(list(measures), qrels, run):
        assert measures[found.measure][int(found.query_id[1:])] == pytest.approx(found.value)
        compared += 1
    assert compared == 8 * len(measures)


def test_relevance_is_undefined_for_who_wanted_nothing() -> None:
    hits, nothing = np.zeros((1, 2), bool), np.zeros(1, np.int64)
    for metric in (
        relevance.ndcg,
        relevance.recall,
        relevance.reciprocal_rank,
        relevance.hit_rate,
    ):
        assert np.isnan(metric(hits, nothing)).all()


def test_means_over_pages_know_empty_slots() -> None:
    values = np.array([[1.0, 3.0], [5.0, 7.0], [9.0, 9.0]])
    shown = np.array([[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(page_mean(values, shown), [2.0, 5.0, NAN])
    np.testing.assert_array_equal(slot_mean(values, shown), [2.0, 2.5, 0.0])


def test_diversity_of_topics_is_the_mean_of_one_minus_jaccard() -> None:
    # {a, b}, {b, c}, {}, {a, b}
    sets = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    near = jaccard(sets @ sets.T, sets.sum(axis=1))
    assert near[0].tolist() == pytest.approx([1, 1 / 3, 0, 1])
    assert near[2, 2] == 0, "two empty sets have nothing in common"
    likeness = ItemLikeness(sparse.csr_matrix(sets), True, "topics")
    best = np.array([[0, 1, 2], [0, 3, -1], [1, -1, -1]])
    # Distances 2/3, 1, 1; then 0; then no pair.
    np.testing.assert_allclose(likeness.diversity(best), [8 / 9, 0.0, NAN], atol=1e-6)


def test_diversity_of_vectors_is_the_mean_of_one_minus_the_cosine() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)
    likeness = ItemLikeness(sparse.csr_matrix(vectors), False, "vectors")
    best = np.array([[0, 1, 2], [2, 3, -1]])
    np.testing.assert_allclose(likeness.diversity(best), [(1 + 0.4 + 0.2) / 3, 1.0], atol=1e-6)


@given(st.integers(0, 10_000))
def test_many_pages_at_once_are_as_diverse_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    likeness = ItemLikeness(
        sparse.csr_matrix((rng.random((9, 5)) < 0.4).astype(np.float32)), True, "topics"
    )
    best = rng.integers(-1, 9, (150, 3))
    together = likeness.diversity(best)
    alone = np.concatenate([likeness.diversity(page[None]) for page in best])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    defined = together[np.isfinite(together)]
    assert ((defined >= 0) & (defined <= 1)).all()
    shown = best >= 0
    np.testing.assert_array_equal(
        np.isnan(mean_pair_distance(np.zeros((150, 3, 3)), shown)), shown.sum(axis=1) < 2
    )


def test_novelty_and_serendipity_by_hand() -> None:
    assert self_information_bits(np.array([1.0, 0.5, 0.125])).tolist() == [0.0, 1.0, 3.0]
    best = np.array([[4, 1, 7, 2], [0, 1, -1, -1]])
    hits = np.array([[True, True, False, True], [True, True, False, False]])
    popular = np.array([[1, 2, 3, 9], [5, 6, -1, -1]])
    # The first user wanted 4, 1 and 2, of which 4 alone is not among the popular.
    assert serendipity(hits, best, popular).tolist() == [0.25, 0.5]
    assert serendipity(hits, best, best).tolist() == [0.0, 0.0], "popularity is no surprise"


def test_exposure_is_what_a_slot_is_worth() -> None:
    found = exposure(np.array([[2, 0], [2, -1]]), 3).toarray()
    np.testing.assert_allclose(found, [[1 / np.log2(3), 0, 1], [0, 0, 1]])
    assert coverage(found.sum(axis=0)) == pytest.approx(2 / 3)


def test_gini_and_lorenz_by_hand() -> None:
    assert gini(np.array([3.0, 3.0, 3.0, 3.0])) == pytest.approx(0.0)
    assert gini(np.array([0.0, 0.0, 0.0, 5.0])) == pytest.approx(3 / 4)
    # Mean absolute difference of 1, 2, 3 is 8/9; half of it over the mean.
    assert gini(np.array([2.0, 1.0, 3.0])) == pytest.approx(8 / 9 / 4)
    assert np.isnan(gini(np.zeros(3)))
    both = gini(np.array([[2.0, 1.0, 3.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(both, [2 / 9, 0.0], atol=1e-12)
    assert lorenz(np.array([1.0, 3.0, 0.0, 4.0]), 5).tolist() == [0.0, 0.0, 0.125, 0.5, 1.0]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30).filter(lambda v: sum(v) > 1e-3))
def test_gini_is_twice_the_area_between_equality_and_the_lorenz_curve(values: list[float]) -> None:
    exposures = np.array(values)
    curve = lorenz(exposures, len(values) + 1)
    area = float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))
    assert gini(exposures) == pytest.approx(1 - 2 * area, abs=1e-9)
    assert 0 - 1e-9 <= gini(exposures) < 1


def test_inequity_is_the_exposure_that_others_would_have() -> None:
    shown, merit = np.array([6.0, 3.0, 1.0]), np.array([2.0, 1.0, 1.0])
    # Shares 0.6, 0.3, 0.1 against 0.5, 0.25, 0.25.
    assert inequity(shown, merit) == pytest.approx(0.15)
    assert inequity(7 * merit, merit) == pytest.approx(0.0)
    assert inequity(np.array([1.0, 0.0]), np.array([0.0, 9.0])) == pytest.approx(1.0)
    assert np.isnan(inequity(np.array([1.0]), np.array([1.0]))), "one provider has no rival"
    assert np.isnan(inequity(np.array([1.0, 1.0]), np.zeros(2)))
    several = inequity(np.stack([shown, merit]), np.stack([merit, merit]))
    np.testing.assert_allclose(several, [0.15, 0.0], atol=1e-12)


def test_popularity_groups_hold_a_fifth_of_the_interactions_at_each_end() -> None:
    # Shares before each item: 0, 0.2, 0.5, 0.8, 0.9.
    assert popularity_groups(np.array([1.0, 3.0, 1.0, 2.0, 3.0])).tolist() == [2, 0, 2, 1, 1]
    assert popularity_groups(np.array([2.0, 3.0, 3.0, 1.0, 1.0])).tolist() == [1, 0, 1, 2, 2]


def test_popularity_deviation_is_the_jensen_shannon_divergence() -> None:
    groups = np.array([0, 1, 2, 0])
    history = sparse.csr_matrix(
        np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], float)
    )
    pages = sparse.csr_matrix(
        np.array([[0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]], float)
    )
    # Nothing in common; the same mix; all tail against half tail.
    mixed = 0.5 * np.log2(1 / 0.75) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(2))
    found = popularity_deviation(history, pages, groups)
    np.testing.assert_allclose(found, [1.0, 0.0, mixed, NAN], atol=1e-9)


def test_popularity_lift_is_relative_to_the_histories() -> None:
    assert lift(np.array([0.3, 0.1]), np.array([0.2, 0.2])).tolist() == pytest.approx([0.5, -0.5])


def test_miscalibration_is_the_smoothed_divergence_of_steck() -> None:
    # Items of topics {a}, {b}, {a, b}, {}.
    topics = sparse.csr_matrix(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], float))
    history = sparse.csr_matrix(
        np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]], float)
    )
    pages = sparse.csr_matrix(
        np.array([[0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]], float)
    )
    # Equal halves; all a against all b; 3/4 and 1/4 against halves; no topic in the history.
    third = 0.75 * np.log2(0.75 / (0.99 * 0.5 + 0.01 * 0.75)) + 0.25 * np.log2(
        0.25 / (0.99 * 0.5 + 0.01 * 0.25)
    )
    found = miscalibration_bits(history, pages, topics)
    np.testing.assert_allclose(found, [0.0, np.log2(100), third, NAN], atol=1e-9)


def test_every_metric_is_described_once() -> None:
    names = [found.metric for found in DESCRIPTIONS]
    assert len(names) == len(set(names))
    assert all(found.meaning.endswith(".") and found.label for found in DESCRIPTIONS)
