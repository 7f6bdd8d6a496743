from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.blend import mixed_weights, relevance, score_matrix, utility
from recmesh.orchestrator.slate import SlateRules, select

probability = st.floats(0, 1, width=32)
weight = st.floats(0, 10, allow_subnormal=False)
matrices = st.integers(1, 20).flatmap(
    lambda n: st.lists(
        st.lists(st.one_of(probability, st.just(float("nan"))), min_size=n, max_size=n),
        min_size=1,
        max_size=4,
    )
)


def matrix_of(columns: list[list[float]]):
    return score_matrix(
        {f"m{i}": np.array(c, np.float32) for i, c in enumerate(columns)}, len(columns[0])
    )


@given(matrices, st.lists(weight, min_size=4, max_size=4))
def test_relevance_stays_within_the_opinions_there_are(columns, weights) -> None:
    blended = relevance(matrix_of(columns), {f"m{i}": w for i, w in enumerate(weights)})
    assert np.isfinite(blended).all()
    for row, value in enumerate(blended):
        present = [
            c[row] for c, w in zip(columns, weights, strict=False) if np.isfinite(c[row]) and w > 0
        ]
        if not present:
            assert value == 0
        else:
            assert min(present) - 1e-4 <= value <= max(present) + 1e-4


@given(matrices, st.randoms(use_true_random=False))
def test_a_candidates_relevance_depends_on_it_alone(columns, random) -> None:
    weights = {f"m{i}": 1.0 + i for i in range(len(columns))}
    blended = relevance(matrix_of(columns), weights)
    order = list(range(len(columns[0])))
    random.shuffle(order)
    keep = order[: max(1, len(order) // 2)]
    again = relevance(matrix_of([[c[i] for i in keep] for c in columns]), weights)
    np.testing.assert_allclose(again, blended[keep], atol=1e-6)


@given(matrices)
def test_weight_zero_means_no_influence(columns) -> None:
    weights = {"m0": 1.0, **{f"m{i}": 0.0 for i in range(1, len(columns))}}
    with_others = relevance(matrix_of(columns), weights)
    alone = relevance(matrix_of(columns[:1]), weights)
    np.testing.assert_allclose(with_others, alone, atol=1e-6)


def test_a_value_that_is_not_a_number_never_takes_a_slot() -> None:
    blended = utility([np.array([0.5, np.nan, 0.1], np.float32)], [1.0])
    slate = select(blended, np.zeros((3, 1), np.uint64), SlateRules(3, 0.5, 3))
    assert slate.chosen.tolist() == [0, 2]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 5), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)),
)
def test_mixed_weights_are_on_the_simplex(policy, preferences) -> None:
    mixed = mixed_weights(policy, preferences)
    assert abs(sum(mixed.values()) - 1) < 1e-9
    assert all(w >= 0 for w in mixed.values())


@st.composite
def pages(draw):
    n = draw(st.integers(0, 30))
    utilities = draw(st.lists(st.one_of(probability, st.just(-np.inf)), min_size=n, max_size=n))
    topics = draw(st.lists(st.integers(0, 2**5 - 1), min_size=n, max_size=n))
    rules = SlateRules(draw(st.integers(1, 12)), draw(st.floats(0, 1)), draw(st.integers(1, 5)))
    return np.array(utilities, np.float32), np.array(topics, np.uint64).reshape(n, 1), rules


@given(pages())
def test_a_slate_is_full_distinct_and_within_its_caps(page) -> None:
    utilities, topics, rules = page
    slate = select(utilities, topics, rules)
    chosen = slate.chosen.tolist()
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == min(rules.slots, int(np.isfinite(utilities).sum()))
    assert np.isfinite(utilities[chosen]).all()
    counts = [sum(bool(int(topics[c, 0]) >> t & 1) for c in chosen) for t in range(5)]
    assert max(counts) <= rules.max_per_topic or slate.relaxed == ("max_per_topic",)


@given(pages())
def test_without_diversity_the_slate_is_by_utility(page) -> None:
    utilities, topics, rules = page
    slate = select(utilities, np.zeros_like(topics), SlateRules(rules.slots, 1.0, 100))
    shown = utilities[slate.chosen]
    assert (np.diff(shown) <= 0).all()
