"""A model as a source: what it proposes, checked."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.found import NOTHING, Found
from recmesh.orchestrator.last_answers import Question
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_trials.seen import Seen
from recmesh.v1 import model_pb2


def retrieve_request(request: Admitted, query: str) -> model_pb2.RetrieveRequest:
    """What models are asked for candidates with; ``query`` is empty where there is none."""
    return model_pb2.RetrieveRequest(
        request_id=request.request_id,
        surface=request.message.surface,
        user=request.features,
        query=query,
        limit=request.surface.source_limit,
        now_unix_s=request.now_unix_s,
    )


async def proposals(
    mesh: Mesh, request: Admitted, name: str, wanted: model_pb2.RetrieveRequest
) -> model_pb2.RetrieveResponse | None:
    """A model's items with a score each; None, and recorded, when there is no such answer."""
    asked = request.snapshot.asked(name)
    answer = await request.calls.ask(
        name,
        request.surface.source_timeout_s,
        lambda timeout_s: mesh.models.clients[asked].retrieve(wanted, timeout_s=timeout_s),
        asked,
    )
    if answer is None:
        return None
    if len(answer.scores) != len(answer.item_ids):
        wrong = f"gave {len(answer.scores)} scores for {len(answer.item_ids)} items"
        request.calls.refuse_answer(name, wrong, asked)
        return None
    request.calls.statuses[name].version = answer.version
    if asked == name and mesh.models.shadows(name):
        request.calls.seen.append(Seen(name, wanted, answer))
    return answer


def _last_answer(
    mesh: Mesh, request: Admitted, name: str, question: Question
) -> model_pb2.RetrieveResponse | None:
    last = mesh.models.last_answers.last(question)
    if last is None:
        return None
    answer, age_s = last
    described = mesh.models.descriptions.get(question.asked)
    # Scores of another version would be read by this one's calibration.
    if described is not None and described.version != answer.version:
        return None
    status = request.calls.statuses[name]
    status.version = answer.version
    status.answer_age.FromNanoseconds(int(age_s * 1e9))
    return answer


async def from_model(
    mesh: Mesh, request: Admitted, name: str, wanted: model_pb2.RetrieveRequest
) -> Found:
    """A model's proposals, best first; those it last made, when it does not answer."""
    question = Question.of(request.snapshot.asked(name), wanted)
    answer = await proposals(mesh, request, name, wanted)
    if answer is not None:
        mesh.models.last_answers.keep(question, answer)
    else:
        answer = _last_answer(mesh, request, name, question)
    if answer is None:
        return NOTHING
    scores = np.array(answer.scores, np.float32)
    scores[~np.isfinite(scores)] = np.nan
    return Found(request.catalog.rows(list(answer.item_ids)), scores)
