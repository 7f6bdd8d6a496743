"""Calls of ``ModelService`` as they are: codes, words and times, without retry or translation."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from recmesh.deployments.address_pool import METHODS
from recmesh.deployments.grpc_channel import CHANNEL_OPTIONS
from recmesh.deployments.mesh_token import from_inside
from recmesh.v1 import model_pb2

ANSWER_S = 10.0
"""A valid request may take this long where a check is not about time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one call ended."""

    method: str
    code: grpc.StatusCode
    words: str
    """The server's, when it is not OK."""
    answer: Any
    """The response; None when it is not OK."""
    took_s: float

    @property
    def good(self) -> bool:
        """Whether it was answered."""
        return self.code is grpc.StatusCode.OK

    def __str__(self) -> str:
        first = self.words.strip().splitlines()[0][:200] if self.words.strip() else "without words"
        return f"{self.method} answered {self.code.name} ({first})"


class CallFailedError(Exception):
    """A valid request was not answered; says how it ended."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class ModelPort:
    """One address. Belongs to the event loop that it was made in."""

    def __init__(self, address: str, token: str = "") -> None:
        """``token`` of the mesh that the address is in; empty: it has none."""
        self.address = address
        self._metadata = from_inside(token)
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._calls = {
            name: self._channel.unary_unary(
                f"/recmesh.v1.ModelService/{name}",
                request_serializer=lambda said: (
                    said if isinstance(said, bytes) else said.SerializeToString()
                ),
                response_deserializer=response.FromString,
            )
            for name, response in METHODS.items()
        }

    def started(self, method: str, request: Message | bytes, timeout_s: float) -> Any:
        """A call under way, which may be awaited or cancelled."""
        return self._calls[method](
            request,  # type: ignore[arg-type] # see above
            timeout=timeout_s,
            metadata=self._metadata,
        )

    async def call(
        self, method: str, request: Message | bytes, timeout_s: float = ANSWER_S
    ) -> Reply:
        """Asks, and says how it ended."""
        started_s = time.perf_counter()
        try:
            answer = await self.started(method, request, timeout_s)
        except grpc.aio.AioRpcError as error:
            took_s = time.perf_counter() - started_s
            return Reply(method, error.code(), error.details() or "", None, took_s)
        return Reply(method, grpc.StatusCode.OK, "", answer, time.perf_counter() - started_s)

    async def _answered(self, method: str, request: Message) -> Any:
        reply = await self.call(method, request)
        if not reply.good:
            raise CallFailedError(reply)
        return reply.answer

    async def describe(self) -> model_pb2.DescribeResponse:
        """Raises CallFailedError when it is not answered; so do the others."""
        answer: model_pb2.DescribeResponse = await self._answered(
            "Describe", model_pb2.DescribeRequest()
        )
        return answer

    async def retrieve(self, request: model_pb2.RetrieveRequest) -> model_pb2.RetrieveResponse:
        """A user's best items."""
        answer: model_pb2.RetrieveResponse = await self._answered("Retrieve", request)
        return answer

    async def score(self, request: model_pb2.ScoreRequest) -> model_pb2.ScoreResponse:
        """Opinions of items."""
        answer: model_pb2.ScoreResponse = await self._answered("Score", request)
        return answer

    async def embed(self, request: model_pb2.EmbedRequest) -> model_pb2.EmbedResponse:
        """Vectors."""
        answer: model_pb2.EmbedResponse = await self._answered("Embed", request)
        return answer

    async def together(
        self, method: str, request: Message, times: int, timeout_s: float
    ) -> list[Reply]:
        """The same call several times at once."""
        calls = (self.call(method, request, timeout_s) for _ in range(times))
        return list(await asyncio.gather(*calls))

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()
