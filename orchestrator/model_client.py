"""The port to one model: how the orchestrator asks it, wherever it runs.

Adapters live in ``deployments``: a model in this process, the replicas of a Ray Serve
application, any external gRPC address. One conformance suite runs on all three. The
messages are the contract's own, so a co-located model costs no serialisation and a
remote one no second set of types.
"""

from __future__ import annotations

from typing import Protocol

from recmesh.v1 import model_pb2


class ModelClient(Protocol):
    """Asks one model. Belongs to the event loop it was made in.

    Every call ends within ``timeout_s`` seconds (> 0) and raises
    :class:`~recmesh.storage.errors.UnavailableError` when no replica can be reached,
    :class:`~recmesh.storage.errors.DeadlineError` when the time is over,
    :class:`~recmesh.storage.errors.OverloadedError` when the model refuses more work,
    :class:`~recmesh.storage.errors.UnsupportedError` for a call the model does not
    offer, and :class:`~recmesh.storage.errors.RecMeshError` when it fails or breaks the
    contract. Adapters may retry within the time: model calls have no side effects.
    """

    @property
    def name(self) -> str:
        """The model's name in the policy."""

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        """What the model is."""

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """A user's best items."""

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """Opinions of items."""

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        """Vectors."""

    async def close(self) -> None:
        """Lets go of connections."""
