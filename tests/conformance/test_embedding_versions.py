"""A model that speaks several embedding versions, in one process and over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from recmesh.deployments import spoken_versions
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.spoken_versions import SpokenVersions
from recmesh.models.model import Capability, Context, Description, Float32, Model, User
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.storage import embedding_registry
from recmesh.storage.artifacts import Artifact, ArtifactStore, ModelCard
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, model_pb2


class ConstantModel(Model):
    """Its vectors and scores say which space they are of."""

    def __init__(self, artifact: Artifact) -> None:
        self.value = float(artifact.card.parameters["value"])
        self.description = Description(
            name="nlp",
            version=artifact.version,
            capabilities=frozenset({Capability.SCORE, Capability.EMBED}),
            owner="tests",
            embedding_dim=int(artifact.card.parameters["dim"]),
            embedding_version=str(artifact.card.parameters["embedding_version"]),
            calibration={"raw_scores": [0.0, self.value], "probabilities": [0.0, 1.0]},
        )

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        return np.full(len(item_ids), self.value, np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        return np.full((len(texts), self.description.embedding_dim), self.value, np.float32)

    def embed_user(self, user: User, now_unix_s: int) -> Float32 | None:
        return self.embed_texts([""])[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(spoken_versions, "loader", lambda _: ConstantModel)
    monkeypatch.setattr(spoken_versions, "LOOK_EVERY_S", 0.01)
    return Home(tmp_path)


def published(home: Home, version: str, value: float, dim: int) -> EmbeddingVersion:
    """An artifact, and the record of what was built from it."""
    card = ModelCard(
        model="nlp",
        owner="tests",
        summary="",
        dataset_version="v",
        trained_until="",
        seed=0,
        parameters={"embedding_version": version, "value": value, "dim": dim},
    )
    artifact = ArtifactStore(home.artifacts).publish(card, {"nothing": np.zeros(1)}, {}, live=False)
    return EmbeddingVersion(version, f"items_{version}", dim, 0, artifact=artifact)


def own(home: Home) -> ConstantModel:
    record = published(home, "full", 1.0, 4)
    return ConstantModel(ArtifactStore(home.artifacts).load("nlp", record.artifact))


@pytest.fixture(params=["in-process", "external"])
async def client(request: pytest.FixtureRequest, home: Home) -> AsyncIterator[ModelClient]:
    if request.param == "in-process":
        local = InProcessModelClient(own(home))
        await local.speak_all(home)
        yield local
        await local.close()
        return
    methods = ModelMethods(own(home))
    following = await SpokenVersions(home, methods).start()
    server = model_server(methods)
    port = await server.start("127.0.0.1:0")
    remote = GrpcModelClient("nlp", [f"127.0.0.1:{port}"])
    yield remote
    following.cancel()
    await remote.close()
    await server.stop(0)


async def embed(client: ModelClient, version: str) -> tuple[str, int, list[float]]:
    texts = model_pb2.TextBatch(texts=["t"])
    answer = await client.embed(
        model_pb2.EmbedRequest(texts=texts, embedding_version=version), timeout_s=2
    )
    return answer.embedding_version, answer.dim, list(answer.values)


async def score(client: ModelClient, version: str) -> list[float]:
    request = model_pb2.ScoreRequest(
        user=common_pb2.UserFeatures(user_id="u"), item_ids=["i"], embedding_version=version
    )
    return list((await client.score(request, timeout_s=2)).scores)


async def until_spoken(client: ModelClient, versions: set[str]) -> model_pb2.DescribeResponse:
    async with asyncio.timeout(10):
        while True:
            said = await client.describe(timeout_s=2)
            if set(said.embedding_versions) == versions:
                return said
            await asyncio.sleep(0.01)


async def test_each_version_answers_from_its_own_artifact(client: ModelClient, home: Home) -> None:
    registry = EmbeddingRegistry(home.vectors)
    registry.save(published(home, "short", 2.0, 2), State.BUILT)
    said = await until_spoken(client, {"full", "short"})
    assert len(said.embedding_calibrations) == 2
    panel = ModelPanel({"nlp": client})
    await panel.refresh()
    assert panel.spoken("nlp") == {"full", "short"}
    read = {v: panel.calibration("nlp", v)(np.ones(1, np.float32))[0] for v in ("", "short")}
    assert read == {"": 1.0, "short": 0.5}
    assert await embed(client, "") == await embed(client, "full") == ("full", 4, [1.0] * 4)
    assert await embed(client, "short") == ("short", 2, [2.0] * 2)
    assert [await score(client, v) for v in ("", "full", "short")] == [[1.0], [1.0], [2.0]]


async def test_a_version_it_lacks_is_never_answered_in_another(client: ModelClient) -> None:
    for call in (embed, score):
        with pytest.raises(RecMeshError) as refused:
            await call(client, "short")
        assert refused.value.code == "FAILED_PRECONDITION"


async def test_what_is_dropped_is_no_longer_spoken(
    client: ModelClient, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_registry, "DRAINED_S", 0.0)
    registry = EmbeddingRegistry(home.vectors)
    for value, name in enumerate(("a", "b", "c"), start=2):
        registry.save(published(home, name, value, 2), State.VERIFIED)
        registry.switch(f"items_{name}")
    await until_spoken(client, {"full", "b", "c"})
    registry.rollback()
    await until_spoken(client, {"full", "b"})


async def test_an_artifact_that_is_gone_costs_the_others_nothing(
    client: ModelClient, home: Home
) -> None:
    registry = EmbeddingRegistry(home.vectors)
    gone = published(home, "gone", 2.0, 2)
    ArtifactStore(home.artifacts).remove("nlp", gone.artifact)
    registry.save(gone, State.VERIFIED)
    registry.save(published(home, "short", 3.0, 2), State.VERIFIED)
    await until_spoken(client, {"full", "short"})


async def test_a_damaged_registry_leaves_the_models_own_version(home: Home) -> None:
    home.vectors.mkdir()
    (home.vectors / "live.json").write_text("{")
    client = InProcessModelClient(own(home))
    await client.speak_all(home)
    assert await embed(client, "full") == ("full", 4, [1.0] * 4)
    await client.close()


async def test_a_replica_that_lacks_it_is_passed_over_and_not_left_alone(home: Home) -> None:
    record = published(home, "short", 2.0, 2)
    short = ConstantModel(ArtifactStore(home.artifacts).load("nlp", record.artifact))
    lacking, speaking = ModelMethods(own(home)), ModelMethods(own(home))
    speaking.speak({"short": short})
    servers = [model_server(lacking), model_server(speaking)]
    ports = [await server.start("127.0.0.1:0") for server in servers]
    client = GrpcModelClient("nlp", [f"127.0.0.1:{port}" for port in ports])
    for _ in range(20):
        assert await embed(client, "short") == ("short", 2, [2.0] * 2)
    assert servers[0].meter.requests == 20, "it is asked first each time, being idle"
    await client.close()
    for server in servers:
        await server.stop(0)
