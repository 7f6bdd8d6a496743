"""One suite for every vector index: exact, embedded Milvus, and a Milvus server if named."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from recmesh.storage.errors import (
    ConfigurationError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from recmesh.storage.index_filter import AnyOf, IndexFilter
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess, free_port
from recmesh.storage.vector_index import IndexQuery, VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX, MAX_TEXT_BYTES, SCHEMAS
from tests.index_items import DIM, ITEMS, OWN, SERVER, SHARED, TEXTS, near, rows_of, search, vectors


def test_the_suite_runs_on_a_milvus_server() -> None:
    if SERVER not in os.environ:
        pytest.skip(f"{SERVER} is not set: the suite was not run on a Milvus server")


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


async def test_unknown_collection(empty: VectorIndex) -> None:
    await empty.drop("nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await search(empty, near(0), collection="nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await empty.count("nowhere")


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
