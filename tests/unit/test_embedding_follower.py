"""Requests at work while the embedding version changes: each in one space, from first to last."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recmesh.deployments import embedding_follower
from recmesh.deployments.embedding_follower import EmbeddingFollower
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.relevance_feedback import FeedbackSettings
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import VersionError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_rows import item_rows
from recmesh.storage.vector_index import Hits, IndexQuery
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import common_pb2, model_pb2, recommendation_pb2
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset

N = 40
CHANCE = random.Random(0)
LENGTHS = {"blue": 1.0, "green": 2.0}
"""Of vectors that are asked with, by space: with equal dimensions a mix would be silent."""


class WatchedIndex(ExactIndex):
    """Remembers which space's vector was compared with which collection."""

    def __init__(self) -> None:
        super().__init__()
        self.compared: set[tuple[str, float]] = set()

    async def search(self, collection: str, query: IndexQuery, *args: Any, **named: Any) -> Hits:
        if query.vectors is not None:
            self.compared.add((collection, round(float(np.linalg.norm(query.vectors)), 3)))
        await asyncio.sleep(CHANCE.random() * 0.004)
        return await super().search(collection, query, *args, **named)


class Speaker(FunctionModel):
    """Answers in the space asked for, and remembers which request asked for which."""

    def __init__(self) -> None:
        super().__init__("nlp", lambda _: 0.5)
        self.spoken = {"blue"}
        self.asked: defaultdict[str, set[str]] = defaultdict(set)

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        return model_pb2.DescribeResponse(
            name="nlp",
            version="1",
            capabilities=[model_pb2.CAPABILITY_SCORE, model_pb2.CAPABILITY_EMBED],
            embedding_version="blue",
            embedding_versions=sorted(self.spoken),
        )

    async def _take(self, request_id: str, version: str) -> None:
        if version not in self.spoken:
            raise VersionError(f"not {version}")
        self.asked[request_id].add(version)
        await asyncio.sleep(CHANCE.random() * 0.004)

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        await self._take(request.request_id, request.embedding_version)
        vector = np.eye(N)[0] * LENGTHS[request.embedding_version]
        return model_pb2.EmbedResponse(
            values=vector, dim=N, embedding_version=request.embedding_version
        )

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        await self._take(request.request_id, request.embedding_version)
        return await super().score(request, timeout_s=timeout_s)


class House:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedding_follower, "POLL_S", 0.005)
        self.registry = EmbeddingRegistry(folder / "vectors")
        self.world = dataset(folder, N)
        self.index, self.nlp = WatchedIndex(), Speaker()
        self.warm = True

    async def built(self, name: str) -> EmbeddingVersion:
        texts = [f"words of {item_id}" for item_id in self.world.items["item_id"].to_pylist()]
        vectors = np.eye(N, dtype=np.float32)
        await self.index.create(name, ITEM_INDEX, N)
        rows = item_rows(self.world.items, self.world.campaigns, vectors, texts, name)
        await self.index.upsert(name, rows)
        return self.registry.save(EmbeddingVersion(name, name, N, N), State.VERIFIED)

    async def warm_up(self, _: EmbeddingVersion) -> bool:
        return self.warm

    async def started(self) -> tuple[Mesh, EmbeddingFollower]:
        await self.built("blue")
        self.registry.switch("blue")
        models = ModelPanel({"nlp": self.nlp})
        await models.refresh()
        policy = Policy.load()
        # A second search's vector is made of the index's own: it has no encoder's length.
        search = policy.surfaces["search"].model_copy(update={"feedback": FeedbackSettings(0)})
        policy.surfaces["search"] = search
        snapshot = Snapshot.of(self.world, policy, self.registry.live())
        mesh = Mesh(models, self.index, snapshot)
        return mesh, EmbeddingFollower(self.registry, mesh, self.warm_up)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


def asked(request_id: str) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest(
        surface="search", user_id="reader", query="words", request_id=request_id
    )
    request.context.time.seconds = NOW_UNIX_S
    return request


async def test_no_request_is_mixed_or_lost_while_versions_change(house: House) -> None:
    mesh, follower = await house.started()
    await house.built("green")
    house.nlp.spoken.add("green")
    following = asyncio.create_task(follower.run())
    seen: list[list[str]] = []

    async def caller(name: str) -> None:
        versions: list[str] = []
        seen.append(versions)
        number = 0
        while not done.is_set():
            number += 1
            request_id = f"{name}-{number}"
            page = await recommend(mesh, asked(request_id), math.inf)
            states = {source.name: source.state for source in page.sources}
            assert states["vector-index"] == states["nlp"] == common_pb2.SOURCE_STATE_OK, page
            assert house.nlp.asked[request_id] == {page.versions.embedding}
            versions.append(page.versions.embedding)

    done = asyncio.Event()
    async with asyncio.TaskGroup() as callers:
        for name in ("a", "b", "c", "d"):
            callers.create_task(caller(name))
        await asyncio.sleep(0.1)
        house.registry.switch("green")
        await asyncio.sleep(0.2)
        house.registry.rollback()
        await asyncio.sleep(0.2)
        done.set()
    following.cancel()
    assert house.index.compared == set(LENGTHS.items())
    for versions in seen:
        changes = [a for a, b in itertools.pairwise(versions) if a != b]
        assert changes == ["blue", "green"], "each caller sees one switch and one return"
        assert versions[-1] == "blue"


@pytest.mark.parametrize("lacks", ["encoder", "collection"])
async def test_what_is_not_ready_waits_and_the_last_one_serves(house: House, lacks: str) -> None:
    mesh, follower = await house.started()
    await house.built("green")
    house.warm = lacks != "collection"
    if lacks != "encoder":
        house.nlp.spoken.add("green")
    house.registry.switch("green")
    await follower.look()
    page = await recommend(mesh, asked("r"), math.inf)
    assert page.versions.embedding == "blue"
    states = {source.name: source.state for source in page.sources}
    assert states["vector-index"] == states["nlp"] == common_pb2.SOURCE_STATE_OK
    house.warm = True
    house.nlp.spoken.add("green")
    await follower.look()
    assert (await recommend(mesh, asked("s"), math.inf)).versions.embedding == "green"
