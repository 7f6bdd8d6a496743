from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import R, nDCG
from scipy import sparse

from recmesh.offline.evaluation.ranking import coverage, judge, top_items


def no_vectors(n_items: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((n_items, 1), dtype=np.float32)


def judged(scores, seen, wanted, k, vectors=None):
    best = top_items(scores, sparse.csr_matrix(seen), k)
    n_users, n_items = wanted.shape
    information = np.arange(n_items, dtype=float)
    return best, judge(
        best,
        sparse.csr_matrix(wanted),
        np.zeros(n_users, np.int64),
        information,
        no_vectors(n_items) if vectors is None else vectors,
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_ndcg_and_recall_are_those_of_ir_measures(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(8 * 20).reshape(8, 20).astype(np.float32)
    seen = rng.random((8, 20)) < 0.2
    wanted = (rng.random((8, 20)) < 0.3) & ~seen
    wanted[~wanted.any(axis=1), 0], seen[:, 0] = True, False
    _, metrics = judged(scores, seen, wanted, k)
    qrels = [
        ir_measures.Qrel(f"u{u}", f"i{i}", 1) for u, i in zip(*np.nonzero(wanted), strict=True)
    ]
    run = [
        ir_measures.ScoredDoc(f"u{u}", f"i{i}", float(scores[u, i]))
        for u, i in zip(*np.nonzero(~seen), strict=True)
    ]
    expected = {
        (str(found.measure), found.query_id): found.value
        for found in ir_measures.iter_calc([nDCG @ k, R @ k], qrels, run)
    }
    for u in range(8):
        assert metrics.ndcg[u] == pytest.approx(expected[f"nDCG@{k}", f"u{u}"])
        assert metrics.recall[u] == pytest.approx(expected[f"R@{k}", f"u{u}"])


@given(st.integers(0, 10_000), st.integers(1, 15))
def test_the_top_is_that_of_a_full_stable_sort_without_the_seen(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, 12)).astype(np.float32)
    scores[rng.random((5, 12)) < 0.2] = np.nan
    seen = rng.random((5, 12)) < 0.3
    best = top_items(scores, sparse.csr_matrix(seen), k)
    for user in range(5):
        filled = np.where(np.isnan(scores[user]), -1.0, scores[user])
        order = [i for i in np.argsort(-filled, kind="stable").tolist() if not seen[user, i]][:k]
        assert best[user].tolist() == order + [-1] * (k - len(order))


def test_novelty_coverage_and_new_items_by_hand() -> None:
    scores = np.array([[4, 3, 2, 1], [1, 2, 3, 4]], np.float32)
    wanted = np.array([[1, 0, 0, 0], [1, 0, 0, 0]], bool)
    best = top_items(scores, sparse.csr_matrix((2, 4), dtype=bool), 2)
    metrics = judge(
        best,
        sparse.csr_matrix(wanted),
        np.array([1, 0]),
        np.array([1.0, 2.0, 3.0, 4.0]),
        no_vectors(4),
    )
    assert best.tolist() == [[0, 1], [3, 2]]
    assert metrics.novelty.tolist() == [1.5, 3.5]
    assert metrics.ndcg.tolist() == [1.0, 0.0]
    # One hit of two wanted items, of which the new one could not be ranked.
    assert metrics.ndcg_new_as_misses[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert coverage(best, 4) == 1.0


def test_diversity_is_the_mean_distance_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.random((6, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[4] = 0
    scores = rng.random((3, 6)).astype(np.float32)
    seen = np.zeros((3, 6), bool)
    seen[2, 1:] = True
    best, metrics = judged(scores, seen, np.ones((3, 6), bool), 4, sparse.csr_matrix(vectors))
    for user in range(2):
        pairs = [(a, b) for n, a in enumerate(best[user]) for b in best[user][n + 1 :]]
        expected = np.mean([1 - vectors[a] @ vectors[b] for a, b in pairs])
        assert metrics.diversity[user] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(metrics.diversity[2]), "one item has no pairs"
