from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recmesh.offline.tuning.covering import covering_rows, least_beaten
from recmesh.offline.tuning.front import hypervolume


def test_the_least_beaten_come_first_and_equal_points_once() -> None:
    values = np.array([[0.1, 0.1], [0.3, 0.1], [0.1, 0.3], [0.3, 0.1], [0.2, 0.2], [0.1, 0.2]])
    assert set(least_beaten(values, 3).tolist()) == {1, 2, 4}
    assert least_beaten(values, 10).tolist() == [1, 2, 4, 5, 0]


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_points_are_taken_while_they_cover_more(seed: int, most: int) -> None:
    means = np.random.default_rng(seed).integers(0, 6, (3, 12, 2)) / 5.0
    taken = covering_rows(means, most)
    assert len(set(taken)) == len(taken) <= most

    def covered(rows: list[int]) -> float:
        return float(np.mean([hypervolume(sample[rows]) for sample in means]))

    for step, point in enumerate(taken):
        before = taken[:step]
        best = max(covered([*before, other]) for other in range(12))
        assert np.isclose(covered([*before, point]), best)
    if len(taken) < most:
        assert np.isclose(covered(taken), covered(list(range(12))))


def test_a_point_that_is_good_for_some_users_only_is_kept() -> None:
    # On average the third is beaten by the first, in one sample it is not.
    means = np.array([[[0.5, 0.5], [0.1, 0.9], [0.4, 0.45]], [[0.3, 0.4], [0.1, 0.9], [0.4, 0.4]]])
    assert set(covering_rows(means, 3)) == {0, 1, 2}


@given(st.integers(0, 10_000), st.integers(0, 8))
def test_what_is_kept_comes_first_and_the_others_add_to_it(seed: int, most: int) -> None:
    means = np.random.default_rng(seed).integers(0, 6, (3, 12, 2)) / 5.0
    taken = covering_rows(means, most, [7, 2, 5])
    assert taken[:3] == [7, 2, 5][:most]
    assert len(set(taken)) == len(taken) <= most

    def covered(rows: list[int]) -> float:
        return float(np.mean([hypervolume(sample[rows]) for sample in means]))

    for step in range(3, len(taken)):
        assert covered(taken[: step + 1]) > covered(taken[:step])
