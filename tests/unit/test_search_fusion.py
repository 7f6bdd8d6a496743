from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.search_fusion import FusionMethod, FusionSettings, fuse
from recmesh.storage.errors import ConfigurationError

Float32 = npt.NDArray[np.float32]
MISSING = float("nan")


def column(low: float, high: float, n: int) -> st.SearchStrategy[list[float]]:
    score = st.floats(low, high, width=32) | st.just(MISSING)
    return st.lists(score, min_size=n, max_size=n)


@st.composite
def legs(draw: st.DrawFn) -> tuple[Float32, Float32]:
    n = draw(st.integers(0, 30))
    dense = draw(column(-1, 1, n))
    words = draw(column(0, 1000, n))
    return np.array(dense, np.float32), np.array(words, np.float32)


settings = st.builds(
    FusionSettings,
    method=st.sampled_from(FusionMethod),
    words_weight=st.floats(0, 1),
    rank_constant=st.floats(0.5, 1000),
)


@given(legs(), settings)
def test_fused_scores_are_finite(scores: tuple[Float32, Float32], how: FusionSettings) -> None:
    fused = fuse(*scores, how)
    assert fused.dtype == np.float32
    assert fused.shape == scores[0].shape
    assert np.isfinite(fused).all()


@given(legs(), settings, st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(
    scores: tuple[Float32, Float32], how: FusionSettings, random: Random
) -> None:
    order = np.arange(len(scores[0]))
    random.shuffle(order)
    shuffled = fuse(scores[0][order], scores[1][order], how)
    np.testing.assert_array_equal(shuffled, fuse(*scores, how)[order])


@given(legs(), settings)
def test_better_in_both_legs_is_not_worse_fused(
    scores: tuple[Float32, Float32], how: FusionSettings
) -> None:
    dense, words = (np.nan_to_num(leg, nan=-np.inf) for leg in scores)
    at_least = (dense[:, None] >= dense[None, :]) & (words[:, None] >= words[None, :])
    fused = fuse(*scores, how)
    assert (fused[:, None] >= fused[None, :])[at_least].all()


@pytest.mark.parametrize("method", FusionMethod)
def test_one_leg_alone_keeps_its_order(method: FusionMethod) -> None:
    dense = np.array([0.1, 0.9, 0.5], np.float32)
    nothing = np.full(3, np.nan, np.float32)
    how = FusionSettings(method)
    assert np.argsort(-fuse(dense, nothing, how)).tolist() == [1, 2, 0]
    assert np.argsort(-fuse(nothing, dense, how)).tolist() == [1, 2, 0]


@pytest.mark.parametrize("method", FusionMethod)
def test_the_only_text_with_the_word_is_lifted(method: FusionMethod) -> None:
    dense = np.array([0.52, 0.51, 0.50], np.float32)
    words = np.array([MISSING, MISSING, 4.0], np.float32)
    without = fuse(dense, np.full(3, np.nan, np.float32), FusionSettings(method))
    with_word = fuse(dense, words, FusionSettings(method))
    assert with_word[2] - with_word[0] > without[2] - without[0]


def test_weights_choose_a_leg() -> None:
    dense = np.array([0.9, 0.1], np.float32)
    words = np.array([1.0, 5.0], np.float32)
    for method in FusionMethod:
        assert np.argmax(fuse(dense, words, FusionSettings(method, words_weight=0.0))) == 0
        assert np.argmax(fuse(dense, words, FusionSettings(method, words_weight=1.0))) == 1


def test_reciprocal_ranks_are_those_of_the_paper() -> None:
    dense = np.array([0.9, 0.5, MISSING], np.float32)
    words = np.array([MISSING, 7.0, 3.0], np.float32)
    fused = fuse(dense, words, FusionSettings(FusionMethod.RECIPROCAL_RANK))
    expected = np.array([1 / 61, 1 / 62 + 1 / 61, 1 / 62]) / 2
    np.testing.assert_allclose(fused, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"words_weight": 1.1}, {"rank_constant": 0.0}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        FusionSettings(**bad)  # type: ignore[arg-type]


def test_earlier_queries_lift_what_they_led_to() -> None:
    same = np.ones(3, np.float32)
    earlier = np.array([np.nan, 2.0, np.nan], np.float32)
    assert fuse(same, same, earlier=earlier).argmax() == 1
    unweighted = fuse(same, same, FusionSettings(earlier_weight=0.0), earlier)
    np.testing.assert_array_equal(unweighted, fuse(same, same))


def test_earlier_weight_is_at_least_0() -> None:
    with pytest.raises(ConfigurationError, match="earlier_weight"):
        FusionSettings(earlier_weight=-0.1)
