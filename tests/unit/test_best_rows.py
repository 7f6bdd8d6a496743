from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recmesh.models.best_rows import best_rows

# Few values, so that there are equals; whoever was seen has minus infinity.
SCORES = st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0]), max_size=40)


@given(SCORES, st.integers(-2, 45))
def test_they_are_those_of_a_stable_sort(values: list[float], limit: int) -> None:
    scores = np.array(values, np.float32)
    expected = np.argsort(-scores, kind="stable")[: max(limit, 0)]
    np.testing.assert_array_equal(best_rows(scores, limit), expected)
