from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts


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


def test_hits_are_slots_with_a_wanted_item_and_never_empty_ones() -> None:
    wanted = sparse.csr_matrix(np.array([[1, 0, 0, 1], [1, 1, 0, 0]], bool))
    best = np.array([[3, 2, 0], [0, 3, -1]])
    assert hits_of(best, wanted).tolist() == [[True, False, True], [True, False, False]]
    assert wanted_counts(wanted).tolist() == [2, 2]
