"""How many of the items that were found have each value of a property."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import Catalog, TermSets, unpacked
from recmesh.v1 import recommendation_pb2

Int32 = npt.NDArray[np.int32]
Counts = list[tuple[str, int]]

MOST_VALUES = 50
CONTENT_TYPE = recommendation_pb2.FACET_FIELD_CONTENT_TYPE
SPECIALTY = recommendation_pb2.FACET_FIELD_SPECIALTY
TOPIC = recommendation_pb2.FACET_FIELD_TOPIC
LANGUAGE = recommendation_pb2.FACET_FIELD_LANGUAGE
YEAR = recommendation_pb2.FACET_FIELD_YEAR


def _most(values: list[str], counts: npt.NDArray[np.int64]) -> Counts:
    found = [(value, int(n)) for value, n in zip(values, counts.tolist(), strict=True) if n]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:MOST_VALUES]


def _terms(sets: TermSets, rows: Int32) -> Counts:
    per_term = unpacked(sets.bits[rows]).sum(axis=0, dtype=np.int64)
    terms = sets.vocabulary
    return _most(list(terms), per_term[np.fromiter(terms.values(), np.int64, len(terms))])


def _years(catalog: Catalog, rows: Int32) -> Counts:
    seconds = catalog.published_unix_s[rows]
    years = seconds[seconds > 0].astype("datetime64[s]").astype("datetime64[Y]")
    distinct, counts = np.unique(years, return_counts=True)
    return _most(distinct.astype(str).tolist(), counts)


FACETS: dict[recommendation_pb2.FacetField.ValueType, Callable[[Catalog, Int32], Counts]] = {
    CONTENT_TYPE: lambda catalog, rows: _terms(catalog.content_types, rows),
    SPECIALTY: lambda catalog, rows: _terms(catalog.specialties, rows),
    TOPIC: lambda catalog, rows: _terms(catalog.topics, rows),
    LANGUAGE: lambda catalog, rows: _terms(catalog.languages, rows),
    YEAR: _years,
}
"""Every property that can be counted."""


def facet(
    catalog: Catalog, rows: Int32, field: recommendation_pb2.FacetField.ValueType
) -> recommendation_pb2.Facet:
    """Counts over these catalog rows, at most 50 values, most frequent first, ties by value."""
    counted = FACETS[field](catalog, rows)
    values = [recommendation_pb2.FacetValue(value=value, count=n) for value, n in counted]
    return recommendation_pb2.Facet(field=field, values=values)
