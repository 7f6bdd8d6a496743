"""Pages as the mesh fills them: the whole pipeline in this process, with patience."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.model import Int64, Model, Progress, TrainedModel
from recmesh.offline.evaluation.cold_cases import Case, ColdPeriod
from recmesh.offline.evaluation.served_scores import SURFACE
from recmesh.offline.evaluation.trained_index import trained_index
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.v1 import recommendation_pb2

PATIENCE_S = 10.0
"""For a source: figures must not depend on how busy the machine is."""
LONGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class ServedPages:
    """What was shown in every case."""

    rows: list[Int64]
    """Catalog rows of each page, best first."""
    degraded: int
    """Pages that did without a source or a model."""


async def _pages(
    period: ColdPeriod,
    trained: Mapping[str, TrainedModel],
    models: Mapping[str, Model],
    policy: Policy,
    cases: Sequence[Case],
    rerank: bool,
    progress: Progress,
) -> ServedPages:
    index, embedding = None, None
    if EMBEDDER in trained:
        index, embedding = await trained_index(period.known, trained[EMBEDDER])
    clients = {name: InProcessModelClient(model) for name, model in models.items()}
    try:
        panel = ModelPanel(dict(clients))
        await panel.refresh()
        mesh = Mesh(panel, index, Snapshot.of(period.known, policy.patient(PATIENCE_S), embedding))
        shown, degraded = [], 0
        for number, case in enumerate(cases):
            request = recommendation_pb2.RecommendRequest(
                request_id=case.user_id,
                surface=SURFACE,
                user_id=case.user_id,
                page_size=LONGEST_PAGE,
            )
            request.context.time.seconds = case.now_unix_s
            if rerank:
                ids = period.catalog.item_ids
                request.candidate_item_ids.extend(ids[row] for row in case.candidates.tolist())
            page = await recommend(mesh, request, math.inf)
            degraded += page.degraded
            ids_shown = [slot.item_id for slot in page.recommendations]
            shown.append(period.catalog.rows(ids_shown).astype(np.int64))
            progress(number + 1, len(cases), "pages filled")
        return ServedPages(shown, degraded)
    finally:
        for client in clients.values():
            await client.close()


def served_pages(
    period: ColdPeriod,
    trained: Mapping[str, TrainedModel],
    models: Mapping[str, Model],
    policy: Policy,
    cases: Sequence[Case],
    *,
    rerank: bool,
    progress: Progress,
) -> ServedPages:
    """Fills a page of the feed for every case, as ``RecommendationService.Recommend`` does.

    The vector index is exact search.

    Args:
        period: what is known at the requests.
        trained: by model name; the language model's vectors are what the index holds.
        models: the same, serving.
        policy: of the feed; timeouts apart.
        cases: the requests.
        rerank: whether the caller brings the cases' candidates, or the mesh retrieves.
        progress: told how far it is.
    """
    return asyncio.run(_pages(period, trained, models, policy, cases, rerank, progress))
