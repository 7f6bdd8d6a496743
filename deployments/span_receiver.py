"""An OTLP collector that keeps the spans it is sent: for one trace, and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from recmesh.storage.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SentSpan:
    """A span as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it is the first of its trace."""
    start_unix_ns: int
    end_unix_ns: int
    failed: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def took_ms(self) -> float:
        """Milliseconds from its start to its end."""
        return (self.end_unix_ns - self.start_unix_ns) / 1e6


def _values(pairs: Any) -> dict[str, Any]:
    def plain(value: common_pb2.AnyValue) -> Any:
        kind = value.WhichOneof("value")
        return getattr(value, kind) if kind else ""

    return {pair.key: plain(pair.value) for pair in pairs}


def _span(service: str, span: trace_pb2.Span) -> SentSpan:
    return SentSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_unix_ns=span.start_time_unix_nano,
        end_unix_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
    )


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps everything that comes. Any thread."""

    def __init__(self) -> None:
        self.endpoint = ""
        """``http://host:port`` once it listens."""
        self._spans: list[SentSpan] = []
        self._text: list[str] = []
        self._news = threading.Condition()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Called by whoever sends spans."""
        sent = [
            _span(str(_values(resource.resource.attributes).get("service.name", "")), span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._news:
            self._spans += sent
            self._text.append(MessageToJson(request))
            self._news.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[SentSpan]:
        """All that came."""
        with self._news:
            return list(self._spans)

    def text(self) -> str:
        """Everything that was sent, as JSON."""
        with self._news:
            return "\n".join(self._text)

    def wait(
        self, complete: Callable[[list[SentSpan]], bool], timeout_s: float, quiet_s: float = 0.0
    ) -> bool:
        """Returns once the spans are complete and no more came for ``quiet_s`` seconds.

        False: they were not within ``timeout_s`` seconds.
        """
        end_s = time.monotonic() + timeout_s
        with self._news:
            if not self._news.wait_for(lambda: complete(self._spans), timeout_s):
                return False
            while time.monotonic() < end_s:
                known = len(self._spans)
                if not self._news.wait_for(lambda: len(self._spans) > known, quiet_s):  # noqa: B023
                    return True
        return True


@contextmanager
def spans_received(address: str = "127.0.0.1:0") -> Iterator[SpanReceiver]:
    """Listens on ``host:port`` while the context is open; port 0 picks a free one.

    Raises:
        ConfigurationError: somebody else listens there.
    """
    receiver = SpanReceiver()
    server = grpc.server(ThreadPoolExecutor(2), options=(("grpc.so_reuseport", 0),))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(f"somebody else listens on {address}") from error
    server.start()
    receiver.endpoint = f"http://{address.rpartition(':')[0]}:{port}"
    try:
        yield receiver
    finally:
        server.stop(0.5).wait()
