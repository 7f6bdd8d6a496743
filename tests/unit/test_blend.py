"""The blend: what it promises for any scores, weights and objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.blend import mixed_weights, relevance, score_matrix, utility

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


@given(matrices)
def test_missing_models_leave_their_weight_to_the_others(columns) -> None:
    weights = {f"m{i}": 1.0 + i for i in range(len(columns))}
    missing = [*columns, [float("nan")] * len(columns[0])]
    with_missing = relevance(matrix_of(missing), {**weights, f"m{len(columns)}": 5.0})
    np.testing.assert_allclose(with_missing, relevance(matrix_of(columns), weights), atol=1e-6)


@st.composite
def objectives(draw):
    n = draw(st.integers(1, 20))
    columns = draw(st.lists(st.lists(probability, min_size=n, max_size=n), min_size=1, max_size=8))
    weights = draw(st.lists(weight, min_size=len(columns), max_size=len(columns)))
    total = sum(weights) or 1.0
    return [np.array(c, np.float32) for c in columns], [w / total for w in weights]


@given(objectives(), st.randoms(use_true_random=False))
def test_a_candidates_utility_follows_it_to_any_place(drawn, random) -> None:
    columns, weights = drawn
    order = list(range(len(columns[0])))
    random.shuffle(order)
    kept = order[: max(1, len(order) // 2)]
    np.testing.assert_array_equal(
        utility([c[kept] for c in columns], weights), utility(columns, weights)[kept]
    )


@given(objectives(), st.data())
def test_more_of_any_objective_is_never_worse(drawn, data) -> None:
    columns, weights = drawn
    which = data.draw(st.integers(0, len(columns) - 1))
    more = [c.copy() for c in columns]
    more[which] = np.maximum(more[which], np.float32(data.draw(probability)))
    assert (utility(more, weights) >= utility(columns, weights)).all()


@given(objectives(), st.data())
def test_an_objective_of_weight_zero_has_no_influence(drawn, data) -> None:
    columns, weights = drawn
    n = len(columns[0])
    ignored = data.draw(st.lists(st.floats(width=32), min_size=n, max_size=n))
    with_ignored = utility([*columns, np.array(ignored, np.float32)], [*weights, 0.0])
    np.testing.assert_array_equal(with_ignored, utility(columns, weights))


@given(objectives(), st.data())
def test_a_value_that_is_not_a_number_never_takes_a_slot(drawn, data) -> None:
    columns, weights = drawn
    row = data.draw(st.integers(0, len(columns[0]) - 1))
    which = data.draw(st.integers(0, len(columns) - 1))
    broken = [c.copy() for c in columns]
    broken[which][row] = np.nan
    blended = utility(broken, weights)
    assert (blended[row] == -np.inf) == (weights[which] > 0)
    assert not np.isnan(blended).any()


def test_objective_weights_weigh() -> None:
    columns = [np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)]
    assert utility(columns, [0.75, 0.25]).tolist() == pytest.approx([0.75, 0.25])


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 5), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)),
)
def test_mixed_weights_are_on_the_simplex(policy, preferences) -> None:
    mixed = mixed_weights(policy, preferences)
    assert abs(sum(mixed.values()) - 1) < 1e-9
    assert all(w >= 0 for w in mixed.values())
