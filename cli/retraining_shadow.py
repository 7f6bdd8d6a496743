"""The real pipeline with the candidates and with the live versions, both in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

import numpy as np

from recmesh.cli.index_server import index_server
from recmesh.deployments.orchestrator_server import colocated_models
from recmesh.models.model import Progress
from recmesh.offline.retraining.shadow import (
    Answer,
    Shadow,
    recent_requests,
    shadowed,
)
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.vector_index import IndexQuery, VectorIndex
from recmesh.v1 import recommendation_pb2

WARM_UP_S = 10.0
PATIENCE_S = 10.0
"""Nobody waits for a page here: slowness shows in the ratio, not as a page that lacks a source."""


def shadow(
    home: Home,
    dataset: Dataset,
    policy: Policy,
    live: Mapping[str, str],
    candidates: Mapping[str, str],
    embeddings: tuple[EmbeddingVersion | None, EmbeddingVersion | None],
    *,
    uri: str,
    seed: int,
    progress: Progress,
) -> Shadow:
    """Answers recent requests twice.

    Args:
        home: folder of the installation.
        dataset: whose requests, and the catalog to answer from.
        policy: that serves.
        live: versions of all models that serve.
        candidates: versions that take the place of some of them.
        embeddings: the live one, and the one with the candidates; None: none.
        uri: a Milvus server; empty: as :func:`index_server` says.
        seed: of the draw of requests.
        progress: told how far it is.

    Raises:
        UnavailableError: the index does not answer.
    """
    requests = recent_requests(dataset, policy.surfaces, seed)
    served = policy.patient(PATIENCE_S)
    snapshots = [Snapshot.of(dataset, served, embedding) for embedding in embeddings]

    async def run(address: str) -> Shadow:
        index = MilvusIndex(address) if address else None
        serving = await colocated_models(home, live)
        taking = await colocated_models(home, candidates)
        try:
            return await shadowed(
                requests,
                await _pipeline(serving, index, snapshots[0]),
                await _pipeline({**serving, **taking}, index, snapshots[1]),
                progress,
            )
        finally:
            closing: Sequence[ModelClient] = [*serving.values(), *taking.values()]
            await asyncio.gather(*(client.close() for client in closing))
            if index is not None:
                await index.close()

    with contextlib.ExitStack() as stack:
        any_index = any(embedding is not None for embedding in embeddings)
        address = stack.enter_context(index_server(home, uri)) if any_index else ""
        return asyncio.run(run(address))


async def _pipeline(
    clients: dict[str, ModelClient], index: VectorIndex | None, snapshot: Snapshot
) -> Answer:
    """Answers requests, every part of it ready."""
    mesh = Mesh(ModelPanel(clients), index, snapshot)
    await mesh.models.refresh()
    if index is not None and snapshot.embedding is not None:
        dim, collection = snapshot.embedding.dim, snapshot.embedding.collection
        probe = IndexQuery(np.eye(1, dim, dtype=np.float32), "warm up")
        await index.search(collection, probe, 1, timeout_s=WARM_UP_S)
    return partial(_page, mesh)


async def _page(
    mesh: Mesh, request: recommendation_pb2.RecommendRequest
) -> recommendation_pb2.RecommendResponse:
    return await recommend(mesh, request, inf)
