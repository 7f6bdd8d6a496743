from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.relevance_feedback import FeedbackSettings, moved_query
from recmesh.storage.errors import ConfigurationError

NORTH, EAST = np.eye(2, dtype=np.float32)


def test_the_query_moves_toward_what_it_found_first() -> None:
    moved = moved_query(NORTH, np.stack([NORTH, EAST]), np.array([0.0, 5.0], np.float32))
    np.testing.assert_allclose(moved, np.array([1, 1]) / np.sqrt(2), atol=1e-6)


def test_a_tie_is_shared() -> None:
    vectors = np.stack([EAST, -EAST, NORTH])
    moved = moved_query(NORTH, vectors, np.array([1, 1, 1], np.float32))
    np.testing.assert_allclose(moved, NORTH, atol=1e-6)


@pytest.mark.parametrize("settings", [FeedbackSettings(items=0), FeedbackSettings(weight=0.0)])
def test_no_feedback_leaves_the_query(settings: FeedbackSettings) -> None:
    moved = moved_query(NORTH, EAST[None], np.ones(1, np.float32), settings)
    np.testing.assert_allclose(moved, NORTH, atol=1e-6)


def test_nothing_found_leaves_the_query() -> None:
    nothing = moved_query(NORTH, np.empty((0, 2), np.float32), np.empty(0, np.float32))
    np.testing.assert_array_equal(nothing, NORTH)


def test_settings_below_zero_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="negative"):
        FeedbackSettings(sharpness=-1.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_the_moved_query_has_unit_length_whatever_the_order(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = rng.normal(size=n).astype(np.float32)
    moved = moved_query(vectors[0], vectors, scores)
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
    order = rng.permutation(n)
    again = moved_query(vectors[0], vectors[order], scores[order])
    np.testing.assert_allclose(again, moved, atol=1e-5)
