"""Pages of past requests under any slate rules, from what the whole pipeline blended for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.asked_cases import Case
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.model import TrainedModel
from recmesh.offline.evaluation.fitting import serving_model
from recmesh.offline.evaluation.trained_index import trained_index
from recmesh.offline.metrics.diversity import jaccard, mean_pair_distance
from recmesh.offline.metrics.relevance import ndcg
from recmesh.orchestrator.catalog import unpacked
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select
from recmesh.storage.dataset import Dataset
from recmesh.v1 import recommendation_pb2

K = 10
POOL = 100
"""Candidates of a request: the longest page."""
PATIENCE_S = 10.0


async def mesh_of(
    known: Dataset, nlp: TrainedModel, *others: TrainedModel, policy: Policy | None = None
) -> tuple[Mesh, list[InProcessModelClient]]:
    """The pipeline as it would have served when the period began."""
    index, record = await trained_index(known, nlp)
    clients = [InProcessModelClient(serving_model(model)) for model in (nlp, *others)]
    named = zip((nlp, *others), clients, strict=True)
    panel = ModelPanel({model.card.model: client for model, client in named})
    await panel.refresh()
    policy = (policy or Policy.load()).patient(PATIENCE_S)
    return Mesh(panel, index, Snapshot.of(known, policy, record)), clients


@dataclass(frozen=True)
class AskedPages:
    """The best candidates of every request by utility, and what was wanted of them."""

    candidates: list[SlateCandidates]
    wanted: list[np.ndarray]
    """Of each request's candidates, bool ``[candidates]``."""
    n_wanted: np.ndarray
    """Candidates or not ``[requests]``."""

    @classmethod
    async def of(cls, mesh: Mesh, surface: str, cases: Sequence[Case]) -> AskedPages:
        """Asks the pipeline for the longest page without slate rules."""
        policy = mesh.snapshot.policy
        policy.surfaces[surface] = policy.surfaces[surface].model_copy(
            update={"slate": SlateRules()}
        )
        candidates, wanted = [], []
        for case in cases:
            request = recommendation_pb2.RecommendRequest(
                surface=surface, user_id=case.user_id, query=case.query, page_size=POOL
            )
            request.context.time.seconds = case.now_unix_s
            page = await recommend(mesh, request, math.inf)
            ids = [slot.item_id for slot in page.recommendations]
            catalog = (
                mesh.snapshot.users
                if policy.surfaces[surface].universe == "users"
                else mesh.snapshot.items
            )
            candidates.append(
                SlateCandidates(
                    utility=np.array([slot.score for slot in page.recommendations], np.float32),
                    topics=catalog.topics.bits[catalog.rows(ids)],
                )
            )
            wanted.append(np.array([item_id in case.wanted for item_id in ids], bool))
        return cls(candidates, wanted, np.array([len(case.wanted) for case in cases]))

    def judged(self, rules: SlateRules) -> tuple[float, float]:
        """Mean nDCG of the pages, and mean diversity by topics of those with two slots."""
        hits = np.zeros((len(self.candidates), K), bool)
        near = np.zeros((len(self.candidates), K, K), np.float32)
        shown = np.zeros((len(self.candidates), K), bool)
        for row, candidates in enumerate(self.candidates):
            chosen = select(candidates, rules, K).chosen
            n = len(chosen)
            hits[row, :n], shown[row, :n] = self.wanted[row][chosen], True
            topics = unpacked(candidates.topics[chosen]).astype(np.float32)
            near[row, :n, :n] = jaccard(topics @ topics.T, topics.sum(axis=1))
        diverse = mean_pair_distance(near, shown)
        return float(ndcg(hits, self.n_wanted).mean()), float(np.nanmean(diverse))
