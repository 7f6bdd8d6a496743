from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recmesh.orchestrator.catalog import Catalog, TermSets, item_catalog
from recmesh.orchestrator.facets import (
    CONTENT_TYPE,
    LANGUAGE,
    MOST_VALUES,
    SPECIALTY,
    TOPIC,
    YEAR,
    facet,
)
from recmesh.v1 import recommendation_pb2
from tests.small_world import dataset


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return item_catalog(dataset(tmp_path))


def counts(
    catalog: Catalog, rows: list[int], field: recommendation_pb2.FacetField.ValueType
) -> list[tuple[str, int]]:
    counted = facet(catalog, np.array(rows, np.int32), field)
    assert counted.field == field
    return [(value.value, value.count) for value in counted.values]


def test_values_are_counted_most_frequent_first(catalog: Catalog) -> None:
    assert counts(catalog, [1, 3, 4], CONTENT_TYPE) == [("article", 2), ("guideline", 1)]
    assert counts(catalog, [0, 1, 4, 5], TOPIC) == [("t0", 2), ("t1", 2)]
    assert counts(catalog, [0, 31], YEAR) == [("2025", 1), ("2026", 1)]


def test_what_no_item_has_is_not_counted(catalog: Catalog) -> None:
    assert counts(catalog, [1, 2], SPECIALTY) == counts(catalog, [1, 2], LANGUAGE) == []
    assert counts(catalog, [], YEAR) == counts(catalog, [], TOPIC) == []


def test_many_terms_are_told_apart_and_cut(catalog: Catalog) -> None:
    sets = TermSets.of(pa.chunked_array([[[f"t{n:03}" for n in range(200)], ["t199"]]]))
    object.__setattr__(catalog, "topics", sets)
    counted = counts(catalog, [0, 1], TOPIC)
    assert counted[:2] == [("t199", 2), ("t000", 1)]
    assert len(counted) == MOST_VALUES
