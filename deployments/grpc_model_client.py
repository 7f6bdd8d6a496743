"""A model behind gRPC addresses: balanced, ejected and retried by the caller itself.

No process stands between the orchestrator and a model. An address is never forgotten
because discovery is silent or empty: connection health decides who is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES
from recmesh.storage.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RecMeshError,
    UnavailableError,
    UnsupportedError,
    VersionError,
)
from recmesh.v1 import model_pb2

Answer = TypeVar("Answer", bound=Message)

EJECTION_S = 0.5
PATIENCE_S = 0.1
"""A replica that leaves a call unanswered for this long is passed over for a moment."""
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A node that vanishes without closing its connections is noticed by these.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are this client's own: they go to another replica.
    ("grpc.enable_retries", 0),
    # Two clients of one process must not share a connection's fate.
    ("grpc.use_local_subchannel_pool", 1),
)
METHODS: dict[str, type[Message]] = {
    "Describe": model_pb2.DescribeResponse,
    "Retrieve": model_pb2.RetrieveResponse,
    "Score": model_pb2.ScoreResponse,
    "Embed": model_pb2.EmbedResponse,
}
ERRORS: dict[grpc.StatusCode, type[RecMeshError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: VersionError,
}


class _Replica:
    """One address: its channel, its calls in flight, and whether it is left alone."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.calls: dict[str, Any] = {
            method: self.channel.unary_unary(
                f"/recmesh.v1.ModelService/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )
            for method, response in METHODS.items()
        }
        self.outstanding = 0
        self.ejected_until_s = 0.0


class GrpcModelClient:
    """Adapter of :class:`~recmesh.orchestrator.model_client.ModelClient`.

    Each call goes to the address with the fewest calls in flight. An address that cannot
    be reached or does not answer is left alone for half a second; what could not be reached,
    or lacks the version asked for, is tried once more elsewhere while the call's time lasts.
    """

    def __init__(self, name: str, addresses: Sequence[str], *, pinned: bool = False) -> None:
        """``pinned`` addresses are configuration: discovery must not replace them."""
        self._name = name
        self.pinned = pinned
        self._replicas: dict[str, _Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.set_addresses(addresses)

    @property
    def name(self) -> str:
        """The model's name in the policy."""
        return self._name

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Takes the replicas that discovery knows of; an empty list changes nothing."""
        if not addresses:
            return
        self.forget(set(self._replicas) - set(addresses))
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = _Replica(address)

    def forget(self, addresses: Iterable[str]) -> None:
        """No longer asks at these addresses: somebody else is there now."""
        for address in addresses:
            gone = self._replicas.pop(address, None)
            if gone is not None:
                # Calls in flight may end; the channel goes once they have.
                task = asyncio.ensure_future(gone.channel.close(grace=2.0))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _pick(self, tried: str | None) -> _Replica | None:
        now = time.monotonic()
        choices = [r for r in self._replicas.values() if r.address != tried]
        healthy = [r for r in choices if r.ejected_until_s <= now]
        # With everybody ejected, the one whose pause ends first is as good as any.
        if healthy:
            return min(healthy, key=lambda r: r.outstanding)
        return min(choices, key=lambda r: r.ejected_until_s, default=None)

    async def _call(self, method: str, request: Message, timeout_s: float) -> Any:
        ends_s = time.monotonic() + timeout_s
        tried: str | None = None
        failure: RecMeshError = UnavailableError(f"model {self._name} has no address")
        for _ in range(2):
            replica = self._pick(tried)
            remaining_s = ends_s - time.monotonic()
            if replica is None or remaining_s <= 0:
                break
            replica.outstanding += 1
            try:
                return await replica.calls[method](request, timeout=remaining_s)
            except grpc.aio.AioRpcError as error:
                failure = self._failure(error)
                hangs = isinstance(failure, DeadlineError) and remaining_s >= PATIENCE_S
                if hangs or isinstance(failure, UnavailableError):
                    # Else one that hangs would be asked again and again while others idle.
                    replica.ejected_until_s = time.monotonic() + EJECTION_S
                if not isinstance(failure, UnavailableError | VersionError):
                    raise failure from error
                tried = replica.address
            finally:
                replica.outstanding -= 1
        raise failure

    def _failure(self, error: grpc.aio.AioRpcError) -> RecMeshError:
        """The caller's own error for what the model answered."""
        code = error.code()
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequestError("request", f"refused by model {self._name}")
        # A model's own errors carry an ErrorInfo; INTERNAL without one is a connection
        # that was cut while the model worked, which another replica can make good.
        own = "grpc-status-details-bin" in dict(error.trailing_metadata() or ())
        if code == grpc.StatusCode.INTERNAL and not own:
            return UnavailableError(f"model {self._name}: connection lost")
        return ERRORS.get(code, RecMeshError)(f"model {self._name} answered {code.name}")

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        """What the model is."""
        answer: model_pb2.DescribeResponse = await self._call(
            "Describe", model_pb2.DescribeRequest(), timeout_s
        )
        return answer

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """A user's best items."""
        answer: model_pb2.RetrieveResponse = await self._call("Retrieve", request, timeout_s)
        return answer

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """Opinions of items."""
        answer: model_pb2.ScoreResponse = await self._call("Score", request, timeout_s)
        return answer

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        """Vectors."""
        answer: model_pb2.EmbedResponse = await self._call("Embed", request, timeout_s)
        return answer

    async def close(self) -> None:
        """Closes every connection."""
        await asyncio.gather(*(r.channel.close() for r in self._replicas.values()), *self._closing)
