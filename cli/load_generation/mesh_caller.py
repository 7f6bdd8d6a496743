"""Asks a mesh over several connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

import grpc.aio

from recmesh.cli.load_generation.latency_record import OK
from recmesh.cli.load_generation.open_loop import Answer
from recmesh.deployments.caller import PRIORITY_KEY
from recmesh.deployments.edge_channel import Edge
from recmesh.deployments.grpc_channel import CHANNEL_OPTIONS
from recmesh.orchestrator.overload.priority import Priority
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

CONNECT_S = 5.0

Shown = Callable[
    [recommendation_pb2.RecommendRequest, recommendation_pb2.RecommendResponse, grpc.aio.Channel],
    None,
]


class MeshCaller:
    """Requests take turns on the channels. Nothing is tried twice: a failure is to be seen."""

    def __init__(
        self,
        channels: list[grpc.aio.Channel],
        deadline_s: float,
        shown: Shown,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """``shown`` is told every page; ``priority`` is every request's."""
        self._channels = cycle(
            (channel, recommendation_pb2_grpc.RecommendationServiceStub(channel))
            for channel in channels
        )
        self.deadline_s = deadline_s
        self._metadata = ((PRIORITY_KEY, priority.name.lower()),)
        self._shown = shown

    async def ask(self, request: recommendation_pb2.RecommendRequest) -> Answer:
        """One page, with the whole deadline from now on."""
        channel, stub = next(self._channels)
        try:
            page = await stub.Recommend(request, timeout=self.deadline_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name)
        self._shown(request, page, channel)
        return Answer(OK, page.degraded)


@asynccontextmanager
async def connected(edge: Edge, number: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """So many connections, made before the first request.

    Raises:
        UnavailableError: nobody answers within 5 seconds.
    """
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(edge.aio_channel(CHANNEL_OPTIONS))
            for _ in range(number)
        ]
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            raise UnavailableError(
                f"nobody answers on {edge.address}; recmesh status says what runs, recmesh up "
                f"starts it"
            ) from None
        yield channels
