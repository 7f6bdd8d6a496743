"""How an orchestrator follows the catalog when all goes well, and when it does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from recmesh.deployments.catalog_changes import changes_of, read_message
from recmesh.deployments.catalog_follower import CatalogFollower
from recmesh.orchestrator.live_snapshot import LiveSnapshot
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.catalog_log import CatalogLog, Delete, Erase, Row, Upsert
from recmesh.storage.catalog_overlay import CatalogChanges
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.erasure import erase_from_files
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import recommendation_pb2
from tests.conformance.test_catalog_log import item
from tests.small_world import ingested_home


def fresh(item_id: str) -> Row:
    return item(item_id, countries=[])


class LogClient:
    """Reads the log as over the wire; may be down."""

    def __init__(self, log: CatalogLog) -> None:
        self.log = log
        self.down = False
        self.asked = 0

    async def read_changes(self, after_seq: int, *, timeout_s: float) -> CatalogChanges:
        self.asked += 1
        if self.down:
            raise UnavailableError("down")
        return changes_of(await asyncio.to_thread(read_message, self.log, after_seq))

    async def close(self) -> None:
        pass


class House:
    def __init__(self, folder: Path) -> None:
        self.home = ingested_home(folder)
        self.database = Database.for_writing("", self.home.database)
        self.log = CatalogLog(self.database)
        self.client = LogClient(self.log)
        live = LiveSnapshot(Dataset.open(self.home.dataset), Policy.load(), None)
        self.mesh = Mesh(ModelPanel({}), None, live.current)
        self.follower = CatalogFollower(self.client, self.mesh, live, self.home.dataset)

    async def page(self) -> recommendation_pb2.RecommendResponse:
        request = recommendation_pb2.RecommendRequest(
            surface="feed", user_id="reader", page_size=50
        )
        return await recommend(self.mesh, request, 5.0)

    async def shown(self) -> set[str]:
        return {shown.item_id for shown in (await self.page()).recommendations}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr("recmesh.deployments.catalog_follower.POLL_S", 0.01)
    monkeypatch.setattr("recmesh.deployments.catalog_follower.RELOAD_EVERY_S", 0.01)
    return House(tmp_path)


async def test_a_start_knows_what_was_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmesh.deployments.catalog_changes.MOST_ROWS", 3)
    house.log.write(
        [Upsert("items", [fresh(f"n{n}") for n in range(10)]), Delete("items", [("i2",)])]
    )
    await house.follower.catch_up(5.0)
    assert house.client.asked > 3, "in pages"
    assert {f"n{n}" for n in range(10)} <= await house.shown()
    assert "i2" not in await house.shown()
    assert "catalog" not in {source.name for source in (await house.page()).sources}


async def test_a_start_without_the_writer_serves_and_says_so(house: House) -> None:
    house.client.down = True
    house.log.write([Upsert("items", [fresh("new")])])
    await house.follower.catch_up(0.05)
    page = await house.page()
    assert page.recommendations
    assert page.degraded
    (catalog,) = [source for source in page.sources if source.name == "catalog"]
    assert catalog.detail == "what was written is not known yet"
    house.client.down = False
    following = asyncio.create_task(house.follower.run())
    async with asyncio.timeout(10):
        while "new" not in await house.shown():  # noqa: ASYNC110 - another task's doing
            await asyncio.sleep(0.01)
    following.cancel()
    assert "catalog" not in {source.name for source in (await house.page()).sources}


async def test_what_is_written_does_not_bring_an_older_embedding_version_back(
    house: House,
) -> None:
    switched = EmbeddingVersion("space", "items", 4, 40)
    house.mesh.snapshot = replace(house.mesh.snapshot, embedding=switched)
    house.log.write([Upsert("items", [fresh("new")])])
    await house.follower.catch_up(5.0)
    assert "new" in await house.shown()
    assert house.mesh.snapshot.embedding == switched


async def test_an_erased_user_is_hidden_at_once_and_then_forgotten(house: House) -> None:
    await house.follower.catch_up(5.0)
    house.log.write([Erase(["colleague"]), Upsert("items", [fresh("new")])])
    following = asyncio.create_task(house.follower.run())
    async with asyncio.timeout(10):
        while house.mesh.snapshot.user_store.get("colleague").known:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert "colleague" not in house.mesh.snapshot.users.item_ids
        assert "colleague" in house.mesh.snapshot.user_store.user_ids, "the files have it still"
        await asyncio.to_thread(erase_from_files, house.home, house.log.read().erased)
        while "colleague" in house.mesh.snapshot.user_store.user_ids:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    following.cancel()
    assert "new" in await house.shown()
    assert house.mesh.snapshot.user_store.get("reader").known
