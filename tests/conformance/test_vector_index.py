"""One suite for every vector index: exact, embedded Milvus, and a Milvus server if named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmesh.storage.errors import (
    ConfigurationError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_filter import AnyOf, Between, Column, Condition, IndexFilter
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess, free_port
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.storage.vector_index import Float32, Hits, IndexQuery, VectorIndex
from recmesh.storage.vector_schema import (
    ITEM_INDEX,
    MAX_TEXT_BYTES,
    SCHEMAS,
    FieldType,
    IndexSchema,
)

DIM = 8
TEXTS = ["heart failure", "skin rash", "heart rhythm", "kidney stones", "sleep apnoea"]
SERVER = "RECMESH_TEST_MILVUS_URI"
SHARED, OWN = f"shared_{ITEM_INDEX.fingerprint}", "own"


def vectors(count: int = len(TEXTS)) -> Float32:
    drawn = np.random.default_rng(7).normal(size=(count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def rows_of(
    ids: Sequence[str],
    texts: Sequence[str] | None = None,
    near: Float32 | None = None,
    schema: IndexSchema = ITEM_INDEX,
    **columns: Column,
) -> IndexRows:
    """Rows with blanks filled in."""
    blank: dict[FieldType, Column] = {
        FieldType.TERM: [""] * len(ids),
        FieldType.TERMS: [[]] * len(ids),
        FieldType.UNIX_S: np.zeros(len(ids), np.int64),
        FieldType.TEXT: [""] * len(ids),
    }
    filled = {field.name: columns.get(field.name, blank[field.type]) for field in schema.fields}
    return IndexRows(
        schema,
        ids,
        vectors(len(ids)) if near is None else near,
        [""] * len(ids) if texts is None else texts,
        filled,
    )


ITEMS = rows_of(
    [f"i{n}" for n in range(len(TEXTS))],
    TEXTS,
    content_type=["article", "video", "article", "case", ""],
    topics=[["heart"], ["skin", "rash"], ["heart", "rhythm"], ["kidney"], []],
    countries=[["DE", "FR"], [], ["US"], ["FR"], []],
    published_at=np.array([0, 100, 200, 300, 400]),
    expires_at=np.array([NEVER_UNIX_S, 1_000, 50, NEVER_UNIX_S, 400]),
    content_hash=[f"hash{n}" for n in range(len(TEXTS))],
    abstract=[f'An "abstract" of {text}.\nSecond line.' for text in TEXTS],
)


def near(row: int) -> IndexQuery:
    return IndexQuery(vectors()[[row]])


async def search(
    index: VectorIndex,
    query: IndexQuery,
    limit: int = 5,
    where: Sequence[Condition] = (),
    collection: str = "",
) -> Hits:
    narrowed = IndexFilter(ITEM_INDEX, tuple(where)) if where else None
    return await index.search(collection or SHARED, query, limit, where=narrowed, timeout_s=5)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    file = tmp_path_factory.mktemp("milvus") / "milvus.db"
    with MilvusProcess(file) as process:
        yield process.uri, file


EVERYWHERE = [
    "exact",
    pytest.param("milvus", marks=pytest.mark.milvus),
    *(["milvus-server"] if SERVER in os.environ else []),
]


def test_the_suite_runs_on_a_milvus_server() -> None:
    if SERVER not in os.environ:
        pytest.skip(f"{SERVER} is not set: the suite was not run on a Milvus server")


@pytest.fixture(params=EVERYWHERE)
async def empty(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    made: VectorIndex
    if request.param == "exact":
        made = ExactIndex()
    elif request.param == "milvus":
        made = MilvusIndex(request.getfixturevalue("milvus")[0])
    else:
        made = MilvusIndex(os.environ[SERVER])
    yield made
    await made.close()


async def fill(index: VectorIndex, collection: str) -> None:
    await index.create(collection, ITEM_INDEX, DIM)
    await index.upsert(collection, ITEMS)


@pytest.fixture
async def index(empty: VectorIndex) -> VectorIndex:
    """With the items in a collection that no test changes: making one takes Milvus a while."""
    try:
        filled = await empty.count(SHARED) == len(ITEMS)
    except NotFoundError:
        filled = False
    if not filled:
        await fill(empty, SHARED)
    return empty


@pytest.fixture
async def changed(empty: VectorIndex) -> VectorIndex:
    """With the items in a collection of the test's own."""
    await fill(empty, OWN)
    return empty


async def test_search_is_exact(index: VectorIndex) -> None:
    found = await search(index, near(1))
    cosines = vectors() @ vectors()[1]
    assert found.ids == [f"i{n}" for n in np.argsort(-cosines)]
    np.testing.assert_allclose(found.dense, np.sort(cosines)[::-1], atol=1e-5)
    assert np.isnan(found.words).all()


async def test_cosine_does_not_depend_on_length(index: VectorIndex) -> None:
    long = IndexQuery(near(1).vectors * np.float32(40))  # type: ignore[operator]
    np.testing.assert_allclose(
        (await search(index, long)).dense, (await search(index, near(1))).dense, atol=1e-5
    )


async def test_limit_is_kept(index: VectorIndex) -> None:
    found = await search(index, near(0), limit=2)
    assert len(found.ids) == len(found.dense) == len(found.words) == 2


async def test_several_interests_are_searched_each(index: VectorIndex) -> None:
    found = await search(index, IndexQuery(vectors()[[1, 3]]), limit=1)
    assert set(found.ids) == {"i1", "i3"}
    np.testing.assert_allclose(found.dense, [1, 1], atol=1e-5)


async def test_words_alone_find_texts_that_have_them(index: VectorIndex) -> None:
    found = await search(index, IndexQuery(text="Heart failure"))
    assert found.ids == ["i0", "i2"], "who has both words is first"
    assert np.isnan(found.dense).all()
    assert found.words[0] > found.words[1] > 0
    assert (await search(index, IndexQuery(text="!!!"))).ids == []


async def test_both_legs_scores_come_back(index: VectorIndex) -> None:
    query = IndexQuery(near(0).vectors, "kidney")
    found = await search(index, query, limit=2)
    assert found.ids[0] == "i0"
    assert len(found.ids) == len(set(found.ids))
    by_id = dict(zip(found.ids, zip(found.dense, found.words, strict=True), strict=True))
    assert by_id["i3"][1] > 0
    assert np.isnan(by_id["i0"][1]), "its text lacks the word"
    assert by_id["i0"][0] == pytest.approx(1, abs=1e-5)


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


async def test_upsert_replaces(changed: VectorIndex) -> None:
    await changed.upsert(OWN, rows_of(["i0"], ["skin"], vectors()[[1]], topics=[["moved"]]))
    assert await changed.count(OWN) == len(ITEMS)
    assert set((await search(changed, near(1), limit=2, collection=OWN)).ids) == {"i0", "i1"}
    assert (
        await search(changed, near(1), where=[AnyOf("topics", ("moved",))], collection=OWN)
    ).ids == ["i0"]
    assert "i0" not in (await search(changed, IndexQuery(text="heart"), collection=OWN)).ids


async def test_deleted_rows_are_not_found(changed: VectorIndex) -> None:
    await changed.delete(OWN, ["i0", "unknown"])
    await changed.delete(OWN, [])
    assert await changed.count(OWN) == len(ITEMS) - 1
    assert "i0" not in (await search(changed, near(0), collection=OWN)).ids
    assert "i0" not in (await search(changed, IndexQuery(text="heart"), collection=OWN)).ids


async def test_deleting_an_odd_id_deletes_nothing_else(changed: VectorIndex) -> None:
    await changed.delete(OWN, ['"] or id != ["', "i0\n", "') or 1==1 --", "\\", "\ud800"])
    assert await changed.count(OWN) == len(ITEMS)


async def test_fields_are_fetched_by_id(changed: VectorIndex) -> None:
    ids = ["i3", "nobody", "i1"]
    vectors_of = await changed.fetch(OWN, ids, "vector", timeout_s=5)
    assert set(vectors_of) == {"i1", "i3"}
    assert all(vector.dtype == np.float32 for vector in vectors_of.values())
    np.testing.assert_allclose(vectors_of["i3"], vectors()[3], atol=1e-6)
    topics = await changed.fetch(OWN, ids, "topics", timeout_s=5)
    assert {id_: list(terms) for id_, terms in topics.items()} == {
        "i1": ["skin", "rash"],
        "i3": ["kidney"],
    }
    abstracts = await changed.fetch(OWN, ids, "abstract", timeout_s=5)
    assert abstracts["i3"] == 'An "abstract" of kidney stones.\nSecond line.'
    assert await changed.fetch(OWN, [], "abstract", timeout_s=5) == {}
    assert (await changed.fetch(OWN, ["i2"], "published_at", timeout_s=5)) == {"i2": 200}


async def test_a_field_that_is_not_there_is_refused(index: VectorIndex) -> None:
    with pytest.raises(InvalidRequestError, match="sparse"):
        await index.fetch(SHARED, ["i1"], "sparse", timeout_s=5)
    with pytest.raises(InvalidRequestError, match="limit"):
        await index.fetch(SHARED, ["i1"] * 16_385, "topics", timeout_s=5)


async def test_content_hashes_of_all_rows(index: VectorIndex) -> None:
    assert await index.content_hashes(SHARED) == {f"i{n}": f"hash{n}" for n in range(len(TEXTS))}


async def test_content_hashes_come_in_pages(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmesh.storage.milvus_index.MAX_LIMIT", 2)
    assert len(await index.content_hashes(SHARED)) == len(TEXTS)


async def test_create_replaces(changed: VectorIndex) -> None:
    await changed.create(OWN, ITEM_INDEX, DIM)
    assert await changed.count(OWN) == 0
    assert (await search(changed, near(0), collection=OWN)).ids == []


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


async def test_another_schemas_rows_and_filters_are_refused(index: VectorIndex) -> None:
    other = SCHEMAS["users"]
    with pytest.raises(ConfigurationError, match="users"):
        await index.upsert(SHARED, rows_of(["d1"], schema=other))
    where = IndexFilter(other, (AnyOf("language", ("en",)),))
    with pytest.raises(ConfigurationError, match="users"):
        await index.search(SHARED, near(0), 5, where=where, timeout_s=5)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (rows_of(["new"], near=np.ones((1, DIM + 1), np.float32)), r"vectors: .*\[n, 8\]"),
        (
            rows_of(["new", "n"], near=np.array([[1.0] * DIM, [np.nan] * DIM], np.float32)),
            r"s\[1\]",
        ),
        (rows_of(["new"], near=np.full((1, DIM), np.inf, np.float32)), "not finite"),
        (rows_of(["new"], near=np.zeros((1, DIM), np.float32)), "all zero"),
        (rows_of(["new", "x" * 257]), r"ids\[1\]: has 257 bytes; from 1 to 256"),
        (rows_of(["new", "é" * 129]), r"ids\[1\]"),
        (rows_of(["new", ""]), r"ids\[1\]: has 0 bytes"),
        (rows_of(["new", "\ud800"]), r"ids\[1\]: is not valid Unicode"),
        (rows_of(["new", "new"]), "twice"),
        (rows_of(["new"], topics=[["x" * 257]]), r"topics\[0\]"),
        (rows_of(["new"], topics=[["ok", ""]]), r"topics\[0\]: has 0 bytes"),
        (rows_of(["new"], topics=[["t"] * 1025]), r"topics\[0\]: has 1025"),
        (rows_of(["new"], language=["\x00"]), r"language\[0\]"),
        (rows_of(["new"], language=["en", "fr"]), "language: has 2 rows of 1"),
        (rows_of(["new"], published_at=np.array([0.5])), "published_at"),
    ],
)
async def test_bad_rows_are_refused_as_a_whole(
    index: VectorIndex, rows: IndexRows, fault: str
) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        await index.upsert(SHARED, rows)
    assert await index.count(SHARED) == len(ITEMS)


async def test_nothing_is_written_when_the_last_of_many_rows_is_bad(index: VectorIndex) -> None:
    many = vectors(1_200)
    many[-1] = np.nan
    with pytest.raises(InvalidRequestError, match=r"vectors\[1199\]"):
        await index.upsert(SHARED, rows_of([f"n{n}" for n in range(1_200)], near=many))
    assert await index.count(SHARED) == len(ITEMS)


@pytest.mark.parametrize(
    ("query", "limit", "fault"),
    [
        (IndexQuery(), 5, "query: has neither"),
        (IndexQuery(text=" \n"), 5, "query: has neither"),
        (IndexQuery(np.empty((0, DIM), np.float32)), 5, "query: has neither"),
        (IndexQuery(np.ones((1, DIM - 1), np.float32)), 5, "vectors: "),
        (IndexQuery(np.ones(DIM, np.float32)), 5, "vectors: "),
        (IndexQuery(np.full((1, DIM), np.nan, np.float32)), 5, r"vectors\[0\]"),
        (IndexQuery(text="heart"), 0, "limit: is 0"),
        (IndexQuery(text="heart"), 16_385, "limit: "),
    ],
)
async def test_bad_queries_are_refused(
    index: VectorIndex, query: IndexQuery, limit: int, fault: str
) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        await search(index, query, limit)


async def test_a_megabyte_of_text_is_cut_between_characters(changed: VectorIndex) -> None:
    text = "first " + "é" * 500_000 + " last"
    await changed.upsert(OWN, rows_of(["i0"], [text]))
    assert (await search(changed, IndexQuery(text="first"), collection=OWN)).ids == ["i0"]
    assert (await search(changed, IndexQuery(text="last"), collection=OWN)).ids == []
    await search(changed, IndexQuery(text=text), collection=OWN)
    cut = rows_of(["i0"], [text]).checked(DIM).texts[0]
    assert MAX_TEXT_BYTES - 2 <= len(cut.encode()) <= MAX_TEXT_BYTES
    assert text.startswith(cut)


@pytest.mark.parametrize("field", ["content_hash", "nowhere", "id", "1==1 or id"])
def test_filters_name_only_allowed_fields(field: str) -> None:
    with pytest.raises(InvalidRequestError, match="content_type, topics"):
        IndexFilter(ITEM_INDEX, (AnyOf(field, ("x",)),))
    with pytest.raises(InvalidRequestError, match="holds terms"):
        IndexFilter(ITEM_INDEX, (Between("topics", 0),))
    with pytest.raises(InvalidRequestError, match="64 bits"):
        IndexFilter(ITEM_INDEX, (Between("published_at", at_most=2**63),))


async def test_unknown_collection(empty: VectorIndex) -> None:
    await empty.drop("nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await search(empty, near(0), collection="nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await empty.count("nowhere")


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


@pytest.mark.milvus
async def test_unreachable_server_is_unavailable() -> None:
    index = MilvusIndex(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError):
        await search(index, near(0))
    await index.close()


@pytest.mark.milvus
def test_one_process_a_file(milvus: tuple[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="another process"), MilvusProcess(milvus[1]):
        pass


@pytest.mark.milvus
async def test_a_killed_milvus_is_named_and_the_next_call_recovers(tmp_path: Path) -> None:
    with MilvusProcess(tmp_path / "milvus.db") as process:
        index = MilvusIndex(process.uri)
        await index.create(OWN, ITEM_INDEX, DIM)
        await index.upsert(OWN, ITEMS)

        async def ask() -> None:
            while True:
                assert (await search(index, near(0), collection=OWN)).ids[0] == "i0"

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        assert process.pid is not None
        os.kill(process.pid, 9)
        with pytest.raises((UnavailableError, DeadlineError)):
            await asking
        with pytest.raises((UnavailableError, DeadlineError)):
            await index.search(OWN, near(0), 5, timeout_s=0.3)
        await asyncio.to_thread(process.restart)
        found = await search(index, IndexQuery(near(0).vectors, "kidney"), collection=OWN)
        assert {found.ids[0], "i3"} <= set(found.ids)
        assert await index.count(OWN) == len(ITEMS)
        await index.close()
