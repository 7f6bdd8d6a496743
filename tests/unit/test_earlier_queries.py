from __future__ import annotations

import numpy as np
import pytest

from recmesh.models.nlp.earlier_queries import NEIGHBOURS, SHARPNESS, EarlierQueries

HEART, SKIN = np.eye(2, dtype=np.float32)


def test_a_query_borrows_the_items_of_those_alike() -> None:
    log = EarlierQueries.of(np.stack([HEART, SKIN]), [{0: 1.0, 2: 2.0}, {1: 1.0}])
    scores = log.scores(HEART, 4)
    assert scores[2] > scores[0] > 0
    assert np.isnan(scores[[1, 3]]).all()


def test_the_nearer_query_counts_by_the_power_of_its_cosine() -> None:
    near, far = np.array([0.9, 0.7], np.float32)
    vectors = np.array([[near, 0], [far, 0]], np.float32)
    scores = EarlierQueries.of(vectors, [{0: 1.0}, {1: 1.0}]).scores(HEART, 2)
    # Scores are roots.
    assert (scores[0] / scores[1]) ** 2 == pytest.approx((near / far) ** SHARPNESS, rel=1e-4)


def test_items_that_several_queries_share_add_up() -> None:
    log = EarlierQueries.of(np.stack([HEART, HEART]), [{0: 1.0}, {0: 1.0, 1: 1.0}])
    scores = log.scores(HEART, 2)
    assert scores[0] > scores[1]


def test_only_the_nearest_queries_are_asked() -> None:
    vectors = np.stack([HEART] * NEIGHBOURS + [np.array([0.5, 0.5], np.float32)])
    log = EarlierQueries.of(vectors, [{0: 1.0}] * NEIGHBOURS + [{1: 1.0}])
    assert np.isnan(log.scores(HEART, 2)[1])


def test_an_empty_log_says_nothing() -> None:
    log = EarlierQueries.of(np.empty((0, 2), np.float32), [])
    assert np.isnan(log.scores(HEART, 3)).all()
