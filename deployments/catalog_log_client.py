"""Asks the catalog's application what was written and done, and tells it what users do here.

Over gRPC or in this process.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import grpc
import grpc.aio

from recmesh.deployments.catalog_changes import changes_of
from recmesh.deployments.catalog_methods import CatalogMethods
from recmesh.deployments.decision_methods import DecisionMethods
from recmesh.deployments.event_changes import events_of
from recmesh.deployments.feedback_methods import FeedbackMethods
from recmesh.deployments.grpc_channel import CHANNEL_OPTIONS
from recmesh.deployments.mesh_token import from_inside
from recmesh.storage.catalog_overlay import CatalogChanges
from recmesh.storage.errors import InvalidRequestError, OverloadedError, UnavailableError
from recmesh.storage.event_log import EventBatch
from recmesh.v1 import (
    catalog_log_pb2,
    catalog_log_pb2_grpc,
    decision_log_pb2,
    decision_log_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
)


class CatalogLogClient(Protocol):
    """Reads the catalog log and the event log, and adds events to it.

    Belongs to the event loop it was made in.
    """

    async def read_changes(self, after_seq: int, *, timeout_s: float) -> CatalogChanges:
        """The next changes after ``after_seq``, perhaps not all.

        Raises:
            UnavailableError: nobody answers in time.
        """

    async def read_events(self, after_seq: int, *, timeout_s: float) -> EventBatch:
        """The next events after ``after_seq``, perhaps not all. Raises as above."""

    async def record_events(
        self, request: feedback_pb2.RecordEventsRequest, *, timeout_s: float
    ) -> feedback_pb2.RecordEventsResponse:
        """Returns once the events are durable.

        Raises:
            UnavailableError: nobody answers in time; the same may be sent again.
            InvalidRequestError: an event breaks the contract; none is recorded.
        """

    async def record_decisions(
        self, request: decision_log_pb2.RecordDecisionsRequest, *, timeout_s: float
    ) -> None:
        """Returns once the records are durable.

        Raises:
            UnavailableError: nobody answers in time; the same may be sent again.
        """

    async def read_decisions(self, request_id: str, *, timeout_s: float) -> list[bytes]:
        """The records of a request, in the order in which they were made. Raises as above."""

    async def close(self) -> None:
        """Lets go of connections."""


class GrpcCatalogLogClient:
    """Asks the catalog's one replica where it was announced last."""

    def __init__(self, token: str = "") -> None:
        """``token`` of the mesh; empty: it has none."""
        self._metadata = from_inside(token)
        self._address = ""
        self._channel: grpc.aio.Channel | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Takes what discovery knows; an empty list changes nothing."""
        if not addresses or self._address in addresses:
            return
        self._drop()
        self._address = addresses[0]
        self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)

    async def read_changes(self, after_seq: int, *, timeout_s: float) -> CatalogChanges:
        """See the port."""
        request = catalog_log_pb2.ReadChangesRequest(after_seq=after_seq)
        with self._asking() as channel:
            stub = catalog_log_pb2_grpc.CatalogLogServiceStub(channel)
            message = await stub.ReadChanges(request, timeout=timeout_s, metadata=self._metadata)
        return await asyncio.to_thread(changes_of, message)

    async def read_events(self, after_seq: int, *, timeout_s: float) -> EventBatch:
        """See the port."""
        request = catalog_log_pb2.ReadEventsRequest(after_seq=after_seq)
        with self._asking() as channel:
            stub = catalog_log_pb2_grpc.CatalogLogServiceStub(channel)
            message = await stub.ReadEvents(request, timeout=timeout_s, metadata=self._metadata)
        return events_of(message)

    async def record_events(
        self, request: feedback_pb2.RecordEventsRequest, *, timeout_s: float
    ) -> feedback_pb2.RecordEventsResponse:
        """See the port."""
        with self._asking() as channel:
            return await feedback_pb2_grpc.FeedbackServiceStub(channel).RecordEvents(
                request, timeout=timeout_s, metadata=self._metadata
            )

    async def record_decisions(
        self, request: decision_log_pb2.RecordDecisionsRequest, *, timeout_s: float
    ) -> None:
        """See the port."""
        with self._asking() as channel:
            stub = decision_log_pb2_grpc.DecisionLogServiceStub(channel)
            await stub.RecordDecisions(request, timeout=timeout_s, metadata=self._metadata)

    async def read_decisions(self, request_id: str, *, timeout_s: float) -> list[bytes]:
        """See the port."""
        request = decision_log_pb2.ReadDecisionsRequest(request_id=request_id)
        with self._asking() as channel:
            stub = decision_log_pb2_grpc.DecisionLogServiceStub(channel)
            found = await stub.ReadDecisions(request, timeout=timeout_s, metadata=self._metadata)
        return list(found.records)

    @contextmanager
    def _asking(self) -> Iterator[grpc.aio.Channel]:
        """Where to ask; a failed call leaves as the port's error."""
        if self._channel is None:
            raise UnavailableError("the catalog has no address")
        try:
            yield self._channel
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                field, _, rule = (error.details() or "").partition(": ")
                raise InvalidRequestError(field, rule) from error
            raise UnavailableError(f"the catalog answered {error.code().name}") from error

    def _drop(self) -> None:
        if self._channel is not None:
            task = asyncio.ensure_future(self._channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._channel = None

    async def close(self) -> None:
        """See the port."""
        self._drop()
        await asyncio.gather(*self._closing)


class InProcessCatalogLogClient:
    """Asks a catalog that runs in this process."""

    def __init__(
        self, methods: CatalogMethods, feedback: FeedbackMethods, decisions: DecisionMethods
    ) -> None:
        self._methods = methods
        self._feedback = feedback
        self._decisions = decisions

    async def read_changes(self, after_seq: int, *, timeout_s: float) -> CatalogChanges:
        """See the port."""
        request = catalog_log_pb2.ReadChangesRequest(after_seq=after_seq)
        message = await self._methods.read_changes(request, math.inf)
        return await asyncio.to_thread(changes_of, message)

    async def read_events(self, after_seq: int, *, timeout_s: float) -> EventBatch:
        """See the port."""
        request = catalog_log_pb2.ReadEventsRequest(after_seq=after_seq)
        return events_of(await self._feedback.read_events(request, math.inf))

    async def record_events(
        self, request: feedback_pb2.RecordEventsRequest, *, timeout_s: float
    ) -> feedback_pb2.RecordEventsResponse:
        """See the port."""
        with _in_time():
            async with asyncio.timeout(timeout_s):
                return await self._feedback.record_events(request, timeout_s)

    async def record_decisions(
        self, request: decision_log_pb2.RecordDecisionsRequest, *, timeout_s: float
    ) -> None:
        """See the port."""
        with _in_time():
            async with asyncio.timeout(timeout_s):
                await self._decisions.record_decisions(request, timeout_s)

    async def read_decisions(self, request_id: str, *, timeout_s: float) -> list[bytes]:
        """See the port."""
        request = decision_log_pb2.ReadDecisionsRequest(request_id=request_id)
        with _in_time():
            async with asyncio.timeout(timeout_s):
                found = await self._decisions.read_decisions(request, timeout_s)
        return list(found.records)

    async def close(self) -> None:
        """See the port."""


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise UnavailableError("the catalog did not answer in time") from error
    except OverloadedError as error:
        raise UnavailableError("the catalog is overloaded") from error
