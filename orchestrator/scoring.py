"""Stage 4: every available model's opinion of every candidate.

A model is asked only for what it has not scored already while retrieving. Where there is a
query, models may be asked twice: what answers the query, and what suits the user whatever they
asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.blend import ScoreMatrix, score_matrix
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_trials.seen import Seen
from recmesh.orchestrator.retrieval import POPULAR, Candidates
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.v1 import common_pb2, model_pb2

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


def _version(request: Admitted, name: str) -> str:
    """The request's embedding version for the model that speaks it; empty for others."""
    return request.embedding_version if name == EMBEDDER else ""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the models think of the candidates."""

    of_request: ScoreMatrix
    """By the surface's ``model_weights``: what is wanted here and now."""
    of_user: ScoreMatrix
    """By its ``affinity_weights``: what suits the user, without regard to the query."""


async def _ask(
    mesh: Mesh,
    request: Admitted,
    name: str,
    query: str,
    rows: Int32,
    at: npt.NDArray[np.intp],
    raw: Float32,
) -> None:
    """Asks one model for what it has not scored, ``rows[at]``, and writes it to ``raw[at]``."""
    ids = request.catalog.item_ids
    asked = request.snapshot.asked(name)
    wanted = model_pb2.ScoreRequest(
        request_id=request.request_id,
        surface=request.message.surface,
        user=request.features,
        query=query,
        item_ids=[ids[row] for row in rows[at].tolist()],
        now_unix_s=request.now_unix_s,
        embedding_version=_version(request, name),
    )
    answer = await request.calls.ask(
        name,
        request.surface.source_timeout_s,
        lambda timeout_s: mesh.models.clients[asked].score(wanted, timeout_s=timeout_s),
        asked,
    )
    if answer is None:
        return
    if len(answer.scores) != len(at):
        wrong = f"gave {len(answer.scores)} scores for {len(at)} items"
        request.calls.refuse_answer(name, wrong, asked)
        return
    scores = np.array(answer.scores, np.float32)
    scores[np.array(answer.missing, np.int64)] = np.nan
    scores[~np.isfinite(scores)] = np.nan
    raw[at] = scores
    request.calls.statuses[name].version = answer.version
    if asked == name and mesh.models.shadows(name):
        request.calls.seen.append(Seen(name, wanted, answer))


async def _matrix(
    mesh: Mesh,
    request: Admitted,
    weights: Mapping[str, float],
    query: str,
    rows: Int32,
    scored: Mapping[str, Float32],
) -> ScoreMatrix:
    """The opinions of the scorers in ``weights``; of ``scored`` only the missing are asked."""
    columns: dict[str, Float32] = {}
    asked = []
    for name in weights:
        if name == POPULAR:
            columns[name] = request.catalog.popular_scores[rows]
            continue
        raw = scored.get(name)
        if raw is None:
            raw = np.full(len(rows), np.nan, np.float32)
        if name == VECTOR_INDEX:
            columns[name] = raw
        elif request.snapshot.asked(name) not in mesh.models.clients:
            request.calls.record(
                name, common_pb2.SOURCE_STATE_UNAVAILABLE, 0.0, "not deployed in this mesh"
            )
        elif mesh.models.can(
            request.snapshot.asked(name), model_pb2.CAPABILITY_SCORE, request.message.surface
        ):
            columns[name] = raw
            at = np.flatnonzero(np.isnan(raw))
            if len(at) and not request.calls.gave_up(request.snapshot.asked(name)):
                asked.append(_ask(mesh, request, name, query, rows, at, raw))
    await asyncio.gather(*asked)
    for name, raw in columns.items():
        who = request.snapshot.asked(name)
        if who in mesh.models.clients:
            columns[name] = mesh.models.calibration(who, _version(request, name))(raw)
    return score_matrix(columns, len(rows))


async def score(
    mesh: Mesh, request: Admitted, candidates: Candidates, kept: npt.NDArray[np.intp]
) -> Scores:
    """All scorers of the surface, the candidates at ``kept``."""
    rows = candidates.rows[kept]
    scored = {name: column[kept] for name, column in candidates.raw_scores.items()}
    surface, query = request.surface, request.message.query
    of_request, of_user = await asyncio.gather(
        _matrix(mesh, request, surface.model_weights, query, rows, scored),
        _matrix(mesh, request, surface.affinity_weights, "", rows, {}),
    )
    return Scores(of_request, of_user)
