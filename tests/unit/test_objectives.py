"""Objectives map candidates to [0, 1], each candidate by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recmesh.orchestrator.catalog import item_catalog
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from tests.small_world import DAY_S, NOW_UNIX_S, dataset


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> ObjectiveInput:
    catalog = item_catalog(dataset(tmp_path_factory.mktemp("data")))
    rows = np.arange(len(catalog), dtype=np.int32)
    return ObjectiveInput(
        catalog=catalog,
        rows=rows,
        relevance=np.linspace(0, 1, len(rows), dtype=np.float32),
        affinity=np.linspace(0, 1, len(rows), dtype=np.float32),
        campaign_worth=np.linspace(0, 1, len(rows), dtype=np.float32),
        now_unix_s=NOW_UNIX_S,
        half_life_days={"default": 10.0, "guideline": 20.0, "podcast": 1.0},
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_are_within_0_and_1_and_of_the_candidate_alone(
    candidates: ObjectiveInput, name: str
) -> None:
    values = OBJECTIVES[name](candidates)
    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 1)).all()
    some = np.array([30, 2, 7])
    fewer = replace(
        candidates,
        rows=candidates.rows[some],
        relevance=candidates.relevance[some],
        affinity=candidates.affinity[some],
        campaign_worth=candidates.campaign_worth[some],
    )
    np.testing.assert_array_equal(OBJECTIVES[name](fewer), values[some])


def test_freshness_halves_at_the_content_types_half_life(candidates: ObjectiveInput) -> None:
    # Item i is i days old; even ones are guidelines, odd ones articles.
    fresh = OBJECTIVES["freshness"](candidates)
    assert fresh[20] == pytest.approx(0.5)
    assert fresh[9] == pytest.approx(2 ** (-9 / 10))
    later = replace(candidates, now_unix_s=NOW_UNIX_S + 10 * DAY_S)
    assert OBJECTIVES["freshness"](later)[9] == pytest.approx(fresh[9] / 2)


def test_items_of_unknown_age_are_not_fresh(candidates: ObjectiveInput) -> None:
    unknown = replace(candidates.catalog, published_unix_s=np.zeros(len(candidates.rows), np.int64))
    assert not OBJECTIVES["freshness"](replace(candidates, catalog=unknown)).any()


def test_what_was_read_is_less_novel(candidates: ObjectiveInput) -> None:
    novel = OBJECTIVES["novelty"](candidates)
    assert novel[3] < novel[30] == novel.max()
