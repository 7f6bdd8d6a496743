"""Versions judged by clicks on pages that were shown."""

from __future__ import annotations

import numpy as np
import pytest

from recmesh.offline.model_trials.click_quality import click_auc


@pytest.mark.parametrize(
    ("scores", "clicked", "auc"),
    [
        ([3.0, 2.0, 1.0], [True, False, False], 1.0),
        ([3.0, 2.0, 1.0], [False, False, True], 0.0),
        ([2.0, 2.0, 1.0], [True, False, False], 0.75),
        ([np.nan, 2.0, 1.0], [True, False, False], 0.0),
        ([np.nan, np.nan], [True, False], 0.5),
        ([4.0, 3.0, 2.0, 1.0], [True, False, True, False], 0.75),
    ],
)
def test_the_area_is_the_share_of_pairs_in_the_right_order(
    scores: list[float], clicked: list[bool], auc: float
) -> None:
    assert click_auc(np.array(scores), np.array(clicked)) == auc
