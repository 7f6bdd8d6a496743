"""What a server says of the calls that it answers: a measure, and a span where one is recorded."""

from __future__ import annotations

import time

from opentelemetry.trace import Span

from recmesh.storage.errors import RecMeshError
from recmesh.storage.telemetry.current_call import CURRENT_CALL, CurrentCall
from recmesh.storage.telemetry.mesh_measures import REQUEST_DURATION, REQUESTS
from recmesh.storage.telemetry.spans import Metadata, failed, served_span

OK = "OK"
CANCELLED = "CANCELLED"
CALLERS_FAULTS = frozenset(
    ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "CANCELLED", "FAILED_PRECONDITION")
)
"""Codes that say nothing of the server."""


def code_of(error: BaseException) -> str:
    """The gRPC code that an error leaves as."""
    if isinstance(error, RecMeshError):
        return error.code
    return "INTERNAL" if isinstance(error, Exception) else CANCELLED


class CallWatch:
    """Watches the calls of one method."""

    def __init__(
        self, service: str, method: str, *, begins_traces: bool, timed: bool = True
    ) -> None:
        """What it watches.

        Args:
            service: full name.
            method: in it.
            begins_traces: a call that no trace leads to may begin one.
            timed: how long it takes says something; false for streams.
        """
        self._method = method
        self._name = f"{service}/{method}"
        self._begins_traces = begins_traces
        self._timed = timed

    def begin(self, metadata: Metadata = ()) -> WatchedCall:
        """A call came in; for the rest of this task it is the current one."""
        call = CurrentCall()
        CURRENT_CALL.set(call)
        span = served_span(self._name, metadata, begins_traces=self._begins_traces)
        if span is not None:
            span.set_attributes({"rpc.system.name": "grpc", "rpc.method": self._name})
        return WatchedCall(call, span, self._method, self._timed)


class WatchedCall:
    """One call; :meth:`end` it, however it ends."""

    __slots__ = ("_call", "_code", "_method", "_span", "_started_s", "_timed")

    def __init__(self, call: CurrentCall, span: Span | None, method: str, timed: bool) -> None:
        self._call = call
        self._span = span
        self._method = method
        self._timed = timed
        self._code = OK
        self._started_s = time.perf_counter()

    def failed(self, error: BaseException) -> None:
        """It ends with an error."""
        self._code = code_of(error)

    def end(self) -> None:
        """It has ended."""
        surface = self._call.surface
        REQUESTS.add(self._method, surface, self._code)
        if self._timed:
            REQUEST_DURATION.observe(time.perf_counter() - self._started_s, self._method, surface)
        if self._span is not None:
            self._span.set_attributes(
                {
                    "rpc.response.status_code": self._code,
                    "recmesh.request_id": self._call.request_id,
                    "recmesh.surface": surface,
                }
            )
            if self._code != OK and self._code not in CALLERS_FAULTS:
                failed(self._span, self._code)
            self._span.end()
