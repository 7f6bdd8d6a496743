"""Stage 4: every available model's opinion of every candidate.

A model is asked only for what it has not scored already while retrieving.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.blend import ScoreMatrix, score_matrix
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.retrieval import POPULAR, VECTOR_INDEX, Candidates
from recmesh.v1 import common_pb2, model_pb2

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where candidates stand: finds catalog rows among them without a catalog-sized array."""

    rows: Int32
    """Distinct."""
    order: npt.NDArray[np.intp]
    ordered: Int32

    @classmethod
    def of(cls, rows: Int32) -> _Places:
        order = np.argsort(rows)
        return cls(rows, order, rows[order])

    def scores(self, candidates: Candidates, source: str) -> Float32:
        """Raw scores a source gave while retrieving ``[len(rows)]``; NaN where it gave none."""
        raw = np.full(len(self.rows), np.nan, np.float32)
        scores = candidates.raw_scores.get(source)
        if scores is None or not len(self.rows):
            return raw
        proposed = candidates.proposed[source]
        at = np.minimum(np.searchsorted(self.ordered, proposed), len(self.rows) - 1)
        left = self.ordered[at] == proposed
        raw[self.order[at[left]]] = scores[left]
        return raw


async def _model_column(
    mesh: Mesh, request: Admitted, name: str, candidates: Candidates, places: _Places
) -> Float32:
    """One model's calibrated scores ``[len(rows)]``; NaN where it has no opinion."""
    rows = places.rows
    raw = places.scores(candidates, name)
    open_ = np.flatnonzero(np.isnan(raw))
    status = request.calls.statuses.get(name)
    failed_before = status is not None and status.state != common_pb2.SOURCE_STATE_OK
    if len(open_) and not failed_before:
        ids = request.catalog.item_ids
        answer = await request.calls.ask(
            name,
            request.surface.source_timeout_s,
            lambda timeout_s: mesh.models.clients[name].score(
                model_pb2.ScoreRequest(
                    request_id=request.request_id,
                    surface=request.message.surface,
                    user=request.features,
                    query=request.message.query,
                    item_ids=[ids[row] for row in rows[open_].tolist()],
                    now_unix_s=request.now_unix_s,
                ),
                timeout_s=timeout_s,
            ),
        )
        if answer is not None and len(answer.scores) != len(open_):
            request.calls.record(
                name,
                common_pb2.SOURCE_STATE_ERROR,
                0.0,
                f"gave {len(answer.scores)} scores for {len(open_)} items",
            )
        elif answer is not None:
            scores = np.array(answer.scores, np.float32)
            scores[np.array(answer.missing, np.int64)] = np.nan
            raw[open_] = scores
            request.calls.statuses[name].version = answer.version
    if not np.isfinite(raw).any():
        return raw
    opinion = np.isfinite(raw)
    calibrated = mesh.models.calibration(name)(np.where(opinion, raw, np.float32(0)))
    return np.where(opinion, calibrated, np.float32(np.nan))


async def score(mesh: Mesh, request: Admitted, candidates: Candidates, rows: Int32) -> ScoreMatrix:
    """All scorers of the surface, all candidates that are left."""
    surface = request.message.surface
    columns: dict[str, Float32] = {}
    models = [
        name
        for name in request.surface.model_weights
        if mesh.models.can(name, model_pb2.CAPABILITY_SCORE, surface)
    ]
    for name in request.surface.model_weights:
        if name not in (POPULAR, VECTOR_INDEX) and name not in mesh.models.clients:
            request.calls.record(
                name, common_pb2.SOURCE_STATE_UNAVAILABLE, 0.0, "not deployed in this mesh"
            )
    if len(rows):
        places = _Places.of(rows)
        answers = await asyncio.gather(
            *(_model_column(mesh, request, name, candidates, places) for name in models)
        )
        columns.update(zip(models, answers, strict=True))
        if POPULAR in request.surface.model_weights:
            columns[POPULAR] = request.catalog.popular_scores[rows]
        if VECTOR_INDEX in request.surface.model_weights:
            columns[VECTOR_INDEX] = places.scores(candidates, VECTOR_INDEX)
    return score_matrix(columns, len(rows))
