"""A call that a page made of a live model."""

from __future__ import annotations

from dataclasses import dataclass

from recmesh.v1 import model_pb2


@dataclass(frozen=True, slots=True)
class Seen:
    """What was asked, and the answer."""

    model: str
    asked: model_pb2.RetrieveRequest | model_pb2.ScoreRequest
    answer: model_pb2.RetrieveResponse | model_pb2.ScoreResponse
