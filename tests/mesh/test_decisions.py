"""Pages of a mesh on Ray are explained at its edge and replayed from its database."""

from __future__ import annotations

import json
import os
import signal
import time

import grpc
import pytest

from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.mesh.conftest import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.milvus]

EVENTUALLY_S = 60.0
NOT_YET = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)


def explained(
    mesh: recommendation_pb2_grpc.RecommendationServiceStub, request_id: str
) -> recommendation_pb2.ExplainResponse:
    """Once the record is there."""
    end = time.monotonic() + EVENTUALLY_S
    while True:
        try:
            answer = mesh.Explain(
                recommendation_pb2.ExplainRequest(request_id=request_id), timeout=30
            )
        except grpc.RpcError as error:
            if error.code() not in NOT_YET:
                raise
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            assert isinstance(answer, recommendation_pb2.ExplainResponse)
            return answer


def test_pages_outlive_the_writer_of_their_records(mesh: RunningMesh) -> None:
    with grpc.insecure_channel(mesh.address) as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id="reader")
        first = stub.Recommend(request, timeout=10, wait_for_ready=True)
        (writer,) = mesh.processes("ray::ServeReplica:catalog:")
        os.kill(writer.pid, signal.SIGKILL)
        second = stub.Recommend(request, timeout=10)
        for page in (first, second):
            answer = explained(stub, page.request_id)
            shown = [slot.item_id for slot in page.recommendations]
            assert [item.item_id for item in answer.items] == shown
            replayed = json.loads(mesh.recmesh("replay", page.request_id, "--json").stdout)
            assert replayed[0]["differences"] == []
            assert [slot["item_id"] for slot in replayed[0]["slots"]] == shown
