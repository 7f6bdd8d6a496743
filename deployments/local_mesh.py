"""The whole mesh in one process: models co-located, the vector index beside it.

For a laptop and for tests. The same pipeline, clients and services as anywhere else; only
the placement differs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from recmesh.deployments.edge_services import edge_server
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.registry import MODELS, loader
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.vector_index import live_embedding_version
from recmesh.v1 import model_pb2

log = structlog.get_logger(__name__)

STOP_GRACE_S = 2.0
WARM_UP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class LocalMesh:
    """A mesh that serves."""

    address: str
    models: tuple[str, ...]
    """Models that have an artifact and take part."""
    embedding: str
    """Embedding version that is searched; empty when nothing is indexed."""


def _trained_models(home: Home) -> dict[str, ModelClient]:
    store = ArtifactStore(home.artifacts)
    clients: dict[str, ModelClient] = {}
    for name in MODELS:
        try:
            artifact = store.load(name)
        except NotFoundError as error:
            # The mesh serves without it and every page says so.
            log.warning("model left out", model=name, reason=str(error))
            continue
        clients[name] = InProcessModelClient(loader(name)(artifact))
    return clients


async def _warm_up(panel: ModelPanel) -> None:
    """Has encoders load their weights now, not within the first search's deadline."""
    texts = model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=["warm-up"]))
    for name, said in panel.descriptions.items():
        if model_pb2.CAPABILITY_EMBED in said.capabilities:
            await panel.clients[name].embed(texts, timeout_s=WARM_UP_TIMEOUT_S)


@contextlib.asynccontextmanager
async def local_mesh(home: Home, policy: Path, address: str) -> AsyncIterator[LocalMesh]:
    """Serves on ``host:port`` while the context is open; port 0 picks a free one.

    Raises:
        NotFoundError: nothing was ingested.
        ConfigurationError: the policy cannot work, or the address is taken.
    """
    rules = Policy.load(policy)
    dataset = Dataset.open(home.dataset)
    async with contextlib.AsyncExitStack() as stack:
        try:
            embedding = live_embedding_version(home.vectors)
        except NotFoundError as error:
            log.warning("vector search left out", reason=str(error))
            embedding, index = None, None
        else:
            milvus = await asyncio.to_thread(
                stack.enter_context, MilvusProcess(home.vectors / "milvus.db")
            )
            index = MilvusIndex(milvus.uri)
            stack.push_async_callback(index.close)
        panel = ModelPanel(await asyncio.to_thread(_trained_models, home))
        for client in panel.clients.values():
            stack.push_async_callback(client.close)
        await panel.refresh()
        await _warm_up(panel)
        snapshot = await asyncio.to_thread(Snapshot.of, dataset, rules, embedding)
        server = edge_server(Mesh(panel, index, snapshot))
        host = address.rpartition(":")[0]
        port = await server.start(address)
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        yield LocalMesh(
            f"{host}:{port}", tuple(panel.clients), embedding.version if embedding else ""
        )
