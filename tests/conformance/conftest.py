"""What several suites run on.

Every vector index, empty and filled: exact, embedded Milvus, and a Milvus server if named. And the
SQL database, empty, each time SQLite and a real PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from recmesh.storage.database import Database
from recmesh.storage.errors import NotFoundError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.vector_index import VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX
from tests.index_items import DIM, ITEMS, OWN, SERVER, SHARED


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    file = tmp_path_factory.mktemp("milvus") / "milvus.db"
    with MilvusProcess(file) as process:
        yield process.uri, file


EVERYWHERE = [
    "exact",
    pytest.param("milvus", marks=pytest.mark.milvus),
    *(["milvus-server"] if SERVER in os.environ else []),
]


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


@pytest.fixture
def database(database_uri: str, tmp_path: Path) -> Iterator[Database]:
    opened = Database.for_writing(database_uri, tmp_path / "recmesh.db")
    yield opened
    opened.close()
