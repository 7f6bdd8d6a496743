from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from recmesh.storage.errors import ConfigurationError, NotFoundError, UnavailableError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess, free_port
from recmesh.storage.vector_index import Float32, IndexedItem, VectorIndex

DIM = 8
TEXTS = ["heart failure", "skin rash", "heart rhythm", "kidney stones", "sleep apnoea"]


def vectors() -> Float32:
    drawn = np.random.default_rng(7).normal(size=(len(TEXTS), DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


ITEMS = [
    IndexedItem(f"i{n}", vector, text)
    for n, (vector, text) in enumerate(zip(vectors(), TEXTS, strict=True))
]


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    file = tmp_path_factory.mktemp("milvus") / "milvus.db"
    with MilvusProcess(file) as process:
        yield process.uri, file


@pytest.fixture(params=["exact", pytest.param("milvus", marks=pytest.mark.milvus)])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    made: VectorIndex
    if request.param == "exact":
        made = ExactIndex()
    else:
        made = MilvusIndex(request.getfixturevalue("milvus")[0])
    await made.create("items", DIM)
    await made.upsert("items", ITEMS)
    yield made
    await made.close()


async def test_search_is_exact(index: VectorIndex) -> None:
    found = await index.search("items", ITEMS[1].vector, 5, timeout_s=5)
    cosines = vectors() @ ITEMS[1].vector
    assert found.item_ids == [f"i{n}" for n in np.argsort(-cosines)]
    np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1], atol=1e-5)


async def test_limit_is_kept(index: VectorIndex) -> None:
    found = await index.search("items", ITEMS[0].vector, 2, timeout_s=5)
    assert len(found.item_ids) == len(found.scores) == 2


async def test_hybrid_lifts_items_with_the_words(index: VectorIndex) -> None:
    found = await index.search_hybrid("items", ITEMS[0].vector, "kidney", 5, timeout_s=5)
    assert set(found.item_ids[:2]) == {"i0", "i3"}
    assert (np.diff(found.scores) <= 0).all()
    assert len(set(found.item_ids)) == len(found.item_ids)


async def test_upsert_replaces(index: VectorIndex) -> None:
    await index.upsert("items", [IndexedItem("i0", ITEMS[1].vector, "skin")])
    assert await index.count("items") == len(ITEMS)
    found = await index.search("items", ITEMS[1].vector, 2, timeout_s=5)
    assert set(found.item_ids) == {"i0", "i1"}


async def test_deleted_items_are_not_found(index: VectorIndex) -> None:
    await index.delete("items", ["i0", "unknown"])
    assert await index.count("items") == len(ITEMS) - 1
    found = await index.search("items", ITEMS[0].vector, 5, timeout_s=5)
    assert "i0" not in found.item_ids


async def test_create_replaces(index: VectorIndex) -> None:
    await index.create("items", DIM)
    assert await index.count("items") == 0


async def test_unknown_collection(index: VectorIndex) -> None:
    await index.drop("nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await index.search("nowhere", ITEMS[0].vector, 1, timeout_s=5)
    with pytest.raises(NotFoundError, match="nowhere"):
        await index.count("nowhere")


@pytest.mark.milvus
async def test_unreachable_server_is_unavailable() -> None:
    index = MilvusIndex(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError):
        await index.search("items", ITEMS[0].vector, 1, timeout_s=15)
    await index.close()


@pytest.mark.milvus
def test_one_process_a_file(milvus: tuple[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="another process"), MilvusProcess(milvus[1]):
        pass
