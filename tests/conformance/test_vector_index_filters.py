"""Filters mean the same on every vector index."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_filter import AnyOf, Between, Column, Condition, IndexFilter
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.storage.vector_index import IndexQuery, VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX, SCHEMAS, FieldType, IndexSchema
from tests.index_items import DIM, TEXTS, near, rows_of, search


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (AnyOf("content_type", ("article", "case")), {"i0", "i2", "i3"}),
        (AnyOf("content_type", ("case",), or_empty=True), {"i3", "i4"}),
        (AnyOf("topics", ("rash", "rhythm", "nothing")), {"i1", "i2"}),
        (AnyOf("countries", ("FR",), or_empty=True), {"i0", "i1", "i3", "i4"}),
        (AnyOf("topics", ()), set()),
        (AnyOf("topics", ("",)), set()),
        (AnyOf("topics", ("a\nb",)), set()),
        (Between("published_at", at_least=200), {"i2", "i3", "i4"}),
        (Between("published_at", at_most=100), {"i0", "i1"}),
        (Between("published_at", 100, 200), {"i1", "i2"}),
        (Between("published_at", 200, 100), set()),
        (Between("published_at"), {f"i{n}" for n in range(5)}),
        (Between("expires_at", at_least=401), {"i0", "i1", "i3"}),
        (Between("expires_at", at_least=NEVER_UNIX_S), {"i0", "i3"}),
    ],
)
async def test_filters_keep_what_they_say(
    index: VectorIndex, where: Condition, kept: set[str]
) -> None:
    assert set((await search(index, near(0), where=[where])).ids) == kept
    worded = await search(index, IndexQuery(text=" ".join(TEXTS)), where=[where])
    assert set(worded.ids) == kept


async def test_conditions_must_all_be_met(index: VectorIndex) -> None:
    where = [AnyOf("content_type", ("article",)), AnyOf("countries", ("FR",))]
    assert (await search(index, near(0), where=where)).ids == ["i0"]


async def test_a_narrow_filter_still_fills_the_limit(index: VectorIndex) -> None:
    found = await search(index, near(0), limit=1, where=[AnyOf("topics", ("kidney",))])
    assert found.ids == ["i3"]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
async def test_every_kind_of_row_is_found_by_every_field(
    empty: VectorIndex, schema: IndexSchema
) -> None:
    values: dict[FieldType, Column] = {
        FieldType.TERM: ["", "x"],
        FieldType.TERMS: [[], ["x", "y"]],
        FieldType.UNIX_S: np.array([0, 7]),
        FieldType.TEXT: ["", "x"],
    }
    columns = {field.name: values[field.type] for field in schema.fields}
    await empty.create(schema.name, schema, DIM)
    await empty.upsert(schema.name, rows_of(["a", "b"], schema=schema, **columns))
    for field in schema.fields:
        if field.filterable:
            wanted = field.type is FieldType.UNIX_S
            condition = Between(field.name, 7) if wanted else AnyOf(field.name, ("x",))
            where = IndexFilter(schema, (condition,))
            found = await empty.search(schema.name, near(0), 5, where=where, timeout_s=5)
            assert found.ids == ["b"], field.name


@pytest.mark.parametrize("field", ["content_hash", "nowhere", "id", "1==1 or id"])
def test_filters_name_only_allowed_fields(field: str) -> None:
    with pytest.raises(InvalidRequestError, match="content_type, topics"):
        IndexFilter(ITEM_INDEX, (AnyOf(field, ("x",)),))
    with pytest.raises(InvalidRequestError, match="holds terms"):
        IndexFilter(ITEM_INDEX, (Between("topics", 0),))
    with pytest.raises(InvalidRequestError, match="64 bits"):
        IndexFilter(ITEM_INDEX, (Between("published_at", at_most=2**63),))


INJECTIONS = [
    '"',
    "\\",
    '\\"',
    '"] or id != ["',
    "' or 1==1 --",
    "a\\u0062",
    "{x}",
    "%",
    "\x00",
    "ｅ",
]
ODD_TERMS = [t for t in INJECTIONS if t != "\x00"] + [
    "en",
    "EN",
    "é",
    "e\u0301",
    "\u2028",
    "😀",
    " ",
]
term = st.one_of(st.sampled_from(ODD_TERMS + INJECTIONS), st.text(max_size=8))
moment = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 5, 10, 15])
condition = st.one_of(
    st.builds(
        AnyOf,
        st.sampled_from(["language", "content_type", "topics", "countries"]),
        st.lists(term, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Between, st.sampled_from(["published_at", "expires_at"]), moment, moment),
)


@pytest.fixture
async def odd(empty: VectorIndex) -> tuple[VectorIndex, VectorIndex]:
    """The index and the exact one, with the same odd terms in their rows."""
    count = 3 * len(ODD_TERMS)
    terms = [ODD_TERMS[n % len(ODD_TERMS)] for n in range(count)]
    rows = rows_of(
        [f"{t}{n}\n%22" for n, t in enumerate(terms)],
        language=[t if n % 3 else "" for n, t in enumerate(terms)],
        content_type=terms[::-1],
        topics=[terms[n : n + n % 4] for n in range(count)],
        countries=[[t] if n % 2 else [] for n, t in enumerate(terms)],
        published_at=np.arange(count),
        expires_at=np.where(np.arange(count) % 2, NEVER_UNIX_S, np.arange(count)),
    )
    exact = ExactIndex()
    for index in (empty, exact):
        await index.create("odd", ITEM_INDEX, DIM)
        await index.upsert("odd", rows)
    return empty, exact


async def test_any_filter_means_the_same_everywhere(odd: tuple[VectorIndex, VectorIndex]) -> None:
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(condition, max_size=3))
    def agrees(conditions: list[Condition]) -> None:
        async def found() -> list[set[str]]:
            return [
                set((await search(index, near(0), 1_000, conditions, "odd")).ids) for index in odd
            ]

        theirs, exact = asyncio.run_coroutine_threadsafe(found(), loop).result()
        assert theirs == exact

    await asyncio.to_thread(agrees)


async def test_rows_with_odd_ids_are_deleted_by_them(odd: tuple[VectorIndex, VectorIndex]) -> None:
    index, exact = odd
    ids = list(await exact.content_hashes("odd"))
    assert set(await index.content_hashes("odd")) == set(ids)
    await index.delete("odd", ids[: len(ids) // 2])
    assert set(await index.content_hashes("odd")) == set(ids[len(ids) // 2 :])
