"""The whole mesh in one process: models co-located, the vector index beside it.

For a laptop and for tests. The same pipeline, clients and services as anywhere else; only
the placement differs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recmesh.deployments.campaign_ledger_client import InProcessCampaignLedger
from recmesh.deployments.catalog_log_client import InProcessCatalogLogClient
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.external_model import dial
from recmesh.deployments.mesh_config import CampaignsTable, DecisionsTable, EventsTable
from recmesh.deployments.orchestrator_server import (
    OrchestratorServer,
    colocated_models,
    live_embedding,
)
from recmesh.models.registry import known_models
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.signing_keys import SigningKeys

STOP_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class LocalMesh:
    """A mesh that serves."""

    address: str
    models: tuple[str, ...]
    """Models that take part: those with an artifact, and those elsewhere."""
    embedding: str
    """Embedding version that is searched; empty when nothing is indexed."""


@contextlib.asynccontextmanager
async def local_mesh(
    home: Home,
    policy: Path,
    address: str,
    database_uri: str = "",
    key_file: Path | None = None,
    campaigns: CampaignsTable | None = None,
    decisions: DecisionsTable | None = None,
    events: EventsTable | None = None,
    external: Mapping[str, dict[str, Any]] | None = None,
) -> AsyncIterator[LocalMesh]:
    """Serves on ``host:port`` while the context is open; port 0 picks a free one.

    ``database_uri`` empty: the database in the home folder; ``key_file`` None: so are the keys of
    attribution tokens; ``campaigns``, ``decisions`` and ``events`` None: as by
    default; ``external``: models that run elsewhere, as
    :func:`~recmesh.deployments.external_model.external_models` says them.

    Raises:
        NotFoundError: nothing was ingested.
        ConfigurationError: the policy cannot work, the address is taken, or another process
            writes the database.
        UnavailableError: the database does not answer.
    """
    Dataset.open(home.dataset)
    async with contextlib.AsyncExitStack() as stack:
        index_uri = ""
        if live_embedding(home) is not None:
            milvus = MilvusProcess(home.vectors / "milvus.db")
            index_uri = (await asyncio.to_thread(stack.enter_context, milvus)).uri
        elsewhere = external or {}
        here = [name for name in known_models() if name not in elsewhere]
        clients = await colocated_models(home, dict.fromkeys(here, ""))
        clients |= {name: dial(name, place) for name, place in elsewhere.items()}
        keys = SigningKeys.load_or_make(key_file or home.attribution_keys)
        tokens = AttributionTokens(keys)
        catalog = CatalogWriter(
            home,
            database_uri,
            clients.get(EMBEDDER),
            index_uri,
            tokens,
            policy=policy,
            campaigns=campaigns,
            decisions=decisions,
            events=events,
        )
        stack.push_async_callback(catalog.close)
        await catalog.start()
        orchestrator = OrchestratorServer(
            home,
            clients,
            policy=policy,
            index_uri=index_uri,
            catalog=InProcessCatalogLogClient(catalog.methods, catalog.feedback, catalog.decisions),
            writer=catalog,
            ledger=InProcessCampaignLedger(catalog.campaigns),
            tokens=tokens,
        )
        stack.push_async_callback(orchestrator.stop, STOP_GRACE_S)
        port = await orchestrator.start(address)
        host = address.rpartition(":")[0]
        embedding = orchestrator.embedding.version if orchestrator.embedding else ""
        yield LocalMesh(f"{host}:{port}", tuple(clients), embedding)
