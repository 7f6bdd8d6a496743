"""The indexer on a real database and the exact index, with a language model that counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from recmesh.deployments import item_indexer, item_indexers
from recmesh.deployments.item_indexer import ItemIndexer
from recmesh.deployments.item_indexers import ItemIndexers
from recmesh.models.nlp.item_vectors import ItemVectors
from recmesh.storage.appended_vectors import MOST_FILES, AppendedVectors, append_vectors
from recmesh.storage.catalog_log import CatalogLog, Delete, Row, Upsert, Write
from recmesh.storage.catalog_tables import SCHEMAS
from recmesh.storage.database import Database
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import InvalidRequestError, RecMeshError, UnavailableError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.index_filter import AnyOf, IndexFilter
from recmesh.storage.index_rows import IndexRows, item_rows
from recmesh.storage.vector_index import IndexQuery
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import model_pb2
from tests.conformance.test_catalog_log import item
from tests.small_world import FunctionModel, dataset

DIM = 4
RECORD = EmbeddingVersion("space-1", "items", DIM, 1)


def vector(text: str) -> np.ndarray:
    made = np.random.default_rng(len(text)).normal(size=DIM).astype(np.float32)
    return made / np.linalg.norm(made)


class Embedder(FunctionModel):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("nlp", lambda _: None)
        self.texts: list[str] = []
        self.space = RECORD.version
        """Empty: the one asked for."""
        self.spaces: set[str] = set()

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        await self._work()
        self.texts += request.texts.texts
        values = np.concatenate([vector(text) for text in request.texts.texts])
        self.spaces.add(request.embedding_version)
        space = self.space or request.embedding_version
        return model_pb2.EmbedResponse(values=values, dim=DIM, embedding_version=space)


ASKED = {"i1": ["what the doctors ask"]}


class House:
    """Everything the indexer works with; :meth:`indexer` starts it anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database.for_writing("", folder / "recmesh.db")
        self.log = CatalogLog(self.database)
        self.commits: GroupCommit[Write] = GroupCommit(self.log.write)
        self.index = ExactIndex()
        self.embedder = Embedder()
        self.dataset = dataset(folder, n_items=2)
        self.folder.joinpath("dataset.json").write_text(
            json.dumps(
                {"version": "v", "files": {n: f.name for n, f in self.dataset.files.items()}}
            )
        )

    def indexer(self) -> ItemIndexer:
        return ItemIndexer(
            self.log,
            self.commits,
            self.index,
            self.embedder,
            RECORD,
            self.folder,
            ItemVectors(
                ["i0", "i1"],
                np.stack([vector("Title 0"), vector("Title 1")]),
                self.folder / "appended",
                RECORD.version,
            ),
            ASKED,
            self.folder / "appended",
        )

    async def rows(self, where: IndexFilter | None = None) -> list[str]:
        query = IndexQuery(vector("x")[None, :])
        found = await self.index.search("items", query, 5000, where=where, timeout_s=5)
        return sorted(found.ids)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr("recmesh.models.nlp.item_vectors.LOOK_EVERY_S", 0.0)
    made = House(tmp_path)
    texts = ["Title 0", "Title 1"]
    vectors = np.stack([vector(text) for text in texts])
    rows = item_rows(made.dataset.items, made.dataset.campaigns, vectors, texts, RECORD.version)
    await made.index.create("items", ITEM_INDEX, DIM)
    await made.index.upsert("items", rows)
    yield made
    made.commits.close()
    made.database.close()


async def index_all(indexer: ItemIndexer) -> None:
    while not await indexer.step():
        pass


def with_title(item_id: str, title: str, **fields: object) -> Row:
    return item(item_id, title, abstract="", **fields)


async def test_new_items_go_in_and_deleted_ones_go_out(house: House) -> None:
    house.log.write([Upsert("items", [with_title("n1", "One"), with_title("n2", "Two")])])
    indexer = house.indexer()
    await index_all(indexer)
    assert await house.rows() == ["i0", "i1", "n1", "n2"]
    house.log.write([Delete("items", [("i0",), ("n1",), ("unknown",)])])
    await index_all(indexer)
    assert await house.rows() == ["i1", "n2"]
    house.log.write([Upsert("items", [with_title("i0", "Title 0")])])
    await index_all(indexer)
    assert await house.rows() == ["i0", "i1", "n2"], "what was deleted is written again"


async def test_only_new_texts_are_embedded_and_what_is_said_of_items_is_current(
    house: House,
) -> None:
    rows = [with_title("i0", "Title 0", language="de"), with_title("n1", "One")]
    house.log.write([Upsert("items", rows)])
    indexer = house.indexer()
    await index_all(indexer)
    assert house.embedder.texts == ["One"]
    german = IndexFilter(ITEM_INDEX, (AnyOf("language", ("de",)),))
    assert await house.rows(german) == ["i0"]
    house.log.write([Upsert("items", [row | {"language": "de"} for row in rows])])
    await index_all(indexer)
    house.log.write([Upsert("items", rows[1:])])
    await index_all(house.indexer())
    assert house.embedder.texts == ["One"]
    assert await house.rows(german) == ["i0"]


async def test_items_know_the_campaigns_that_pay_for_them(house: House) -> None:
    campaign = dict.fromkeys(SCHEMAS["campaigns"].columns.names)
    campaign |= {"campaign_id": "c", "item_ids": ["i1", "n1", "unknown"], "sponsor": "s"}
    campaign |= {name: [] for name in ("specialties", "countries", "languages")}
    house.log.write([Upsert("campaigns", [campaign])])
    indexer = house.indexer()
    await index_all(indexer)
    paid = IndexFilter(ITEM_INDEX, (AnyOf("campaign_ids", ("c",)),))
    assert await house.rows(paid) == ["i1"]
    house.log.write([Upsert("items", [with_title("n1", "One")])])
    await index_all(indexer)
    assert await house.rows(paid) == ["i1", "n1"]


async def test_it_goes_on_where_it_was_without_losing_or_doubling(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.log.write([Upsert("items", [with_title(f"n{n}", f"Text {n}") for n in range(1200)])])
    indexer = house.indexer()
    await indexer.step()
    # Dies after the index took the second part and before the position is kept.
    monkeypatch.setattr(house.commits, "submit", lambda _: (_ for _ in ()).throw(KeyError("dead")))
    with pytest.raises(KeyError):
        await indexer.step()
    monkeypatch.undo()
    assert await house.index.count("items") == 1002
    await index_all(house.indexer())
    assert await house.index.count("items") == 1202
    assert house.log.index_position("items") == 1200


@pytest.mark.parametrize("broken", ["embedder", "index"])
async def test_what_was_written_while_something_was_down_is_taken_later(
    house: House, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise UnavailableError("down")

    indexer = house.indexer()
    place = (house.embedder, "embed") if broken == "embedder" else (house.index, "upsert")
    monkeypatch.setattr(*place, fails)
    assert house.log.write([Upsert("items", [with_title("n1", "One")])]) == [1]
    with pytest.raises(UnavailableError):
        await indexer.step()
    assert house.log.index_position("items") is None
    monkeypatch.undo()
    await index_all(indexer)
    assert await house.rows() == ["i0", "i1", "n1"]


async def test_an_item_that_the_index_refuses_keeps_no_other_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = house.index.upsert

    async def refuses(collection: str, rows: IndexRows) -> None:
        if "bad" in rows.ids:
            raise InvalidRequestError("ids[0]", "is bad")
        await upsert(collection, rows)

    monkeypatch.setattr(house.index, "upsert", refuses)
    house.log.write([Upsert("items", [with_title(n, n) for n in ("n1", "n2", "bad", "n3")])])
    await index_all(house.indexer())
    assert await house.rows() == ["i0", "i1", "n1", "n2", "n3"]


async def test_another_embedding_space_is_refused(house: House) -> None:
    house.embedder.space = "space-2"
    house.log.write([Upsert("items", [with_title("n1", "One")])])
    with pytest.raises(RecMeshError, match="speaks space-2, the index space-1"):
        await house.indexer().step()


async def test_the_language_model_finds_the_new_vectors(house: House) -> None:
    known = np.eye(2, DIM, dtype=np.float32)
    vectors = ItemVectors(["i0", "i9"], known, house.folder / "appended", "space-1")
    row_of, before = vectors.current()
    assert set(row_of) == {"i0", "i9"}
    changed = [with_title("i0", "Changed"), with_title("n1", "One")]
    house.log.write([Upsert("items", changed)])
    await index_all(house.indexer())
    now_of, now = vectors.current()
    np.testing.assert_array_equal(now[now_of["n1"]], vector("One"))
    np.testing.assert_array_equal(now[now_of["i0"]], vector("Changed"))
    np.testing.assert_array_equal(now[now_of["i9"]], known[1])
    np.testing.assert_array_equal(before[row_of["i0"]], known[0])
    assert "n1" not in row_of, "what a caller was given does not change"


async def test_every_served_version_follows_in_its_own_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_indexer, "POLL_S", 0.01)
    monkeypatch.setattr(item_indexers, "LOOK_EVERY_S", 0.01)
    home = Home(tmp_path)
    home.dataset.mkdir()
    house = House(home.dataset)
    house.embedder.space = ""
    registry = EmbeddingRegistry(home.vectors)
    for collection, state in (("live", State.VERIFIED), ("next", State.BUILT)):
        await house.index.create(collection, ITEM_INDEX, DIM)
        registry.save(EmbeddingVersion(f"space-{collection}", collection, DIM, 0), state)
    registry.switch("live")
    indexers = ItemIndexers(home, house.log, house.commits, house.index, house.embedder)
    following = asyncio.create_task(indexers.run())

    async def write(item_id: str, title: str) -> None:
        # As the writer does: one thread at a time writes the database.
        done = house.commits.submit(Upsert("items", [with_title(item_id, title)]))
        await asyncio.wrap_future(done)

    async def counts(live: int, next_: int) -> None:
        async with asyncio.timeout(10):
            while [await house.index.count(c) for c in ("live", "next")] != [live, next_]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    await write("n1", "One")
    await counts(1, 1)
    assert house.embedder.spaces == {"space-live", "space-next"}
    registry.remove(registry.get("next"))
    async with asyncio.timeout(10):
        while "index-next" in {task.get_name() for task in asyncio.all_tasks()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await write("n2", "Two")
    await counts(2, 1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("index-")]
    house.commits.close()
    house.database.close()


def test_two_collections_of_one_version_append_what_both_know(tmp_path: Path) -> None:
    ahead, behind = np.ones(DIM, np.float32), np.zeros(DIM, np.float32)
    reader = AppendedVectors(tmp_path, "s")
    append_vectors(tmp_path, "s", 10, {"i10": ahead})
    assert set(reader.news()) == {"i10"}
    append_vectors(tmp_path, "s", 10, {"i5": behind})
    append_vectors(tmp_path, "s", 7, {"i7": behind})
    assert set(reader.news()) == {"i5", "i7", "i10"}, "what comes late is read, too"
    assert reader.news() == {}
    assert set(AppendedVectors(tmp_path, "s").news()) == {"i5", "i7", "i10"}


def test_many_files_are_joined_and_nobody_misses_any(tmp_path: Path) -> None:
    late, current = AppendedVectors(tmp_path, "s"), AppendedVectors(tmp_path, "s")
    seen: dict[str, np.ndarray] = {}
    for n in range(3 * MOST_FILES):
        append_vectors(tmp_path, "s", n, {f"i{n % 7}": np.full(DIM, n, np.float32)})
        if n % 5 == 0:
            seen.update(current.news())
    seen.update(current.news())
    assert len(list((tmp_path / "s").iterdir())) <= MOST_FILES + 1
    for found in (seen, late.news()):
        assert {name: int(made[0]) for name, made in found.items()} == {
            f"i{n % 7}": n for n in range(3 * MOST_FILES - 7, 3 * MOST_FILES)
        }
    assert AppendedVectors(tmp_path / "nowhere", "s").news() == {}
