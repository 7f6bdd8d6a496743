from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.storage.index_choice import index_for, search_parameters
from recmesh.storage.vector_schema import SCHEMAS, IndexSchema

DOCUMENT = Path(__file__).parents[2] / "docs" / "vector-index.md"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
def test_the_document_shows_every_field(schema: IndexSchema) -> None:
    lines = [f"| {schema.name} | type | filter | meaning |", "|---|---|---|---|"]
    for field in schema.fields:
        filterable = "yes" if field.filterable else ""
        lines.append(f"| {field.name} | {field.type} | {filterable} | {field.meaning} |")
    assert "\n".join(lines) in DOCUMENT.read_text()


def test_schemas_are_told_apart() -> None:
    assert len({schema.fingerprint for schema in SCHEMAS.values()}) == len(SCHEMAS)


def test_kind_of_index_by_size() -> None:
    assert index_for(10_000_000, embedded=True).index_type == "FLAT"
    sizes = (0, 49_999, 50_000, 4_999_999, 5_000_000)
    kinds = [index_for(size, embedded=False).index_type for size in sizes]
    assert kinds == ["FLAT", "FLAT", "HNSW", "HNSW", "DISKANN"]


@pytest.mark.parametrize(("kind", "name"), [("HNSW", "ef"), ("DISKANN", "search_list")])
def test_a_graph_keeps_more_candidates_than_are_wanted(kind: str, name: str) -> None:
    for limit in (1, 100, 500, 16_384):
        assert search_parameters(kind, limit)[name] >= limit
    assert search_parameters("FLAT", 500) == {}
