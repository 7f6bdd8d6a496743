"""Sends the spans of a process to a collector by OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from recmesh.storage.telemetry.spans import trace_with

NAMESPACE = "recmesh"
EVERY_MS = 1000
"""Between two messages to the collector."""
TIMEOUT_S = 2.0
MOST_WAITING = 4096
"""Spans that wait for the collector; then new ones are lost, and no request waits."""


@contextmanager
def spans_exported(
    endpoint: str, sample_ratio: float, service: str, instance: str, version: str
) -> Iterator[None]:
    """Records and exports this process' spans while the context is open.

    Args:
        endpoint: ``http://host:port`` or ``https://host:port`` of the collector.
        sample_ratio: share of the requests that no trace leads to, in [0, 1]; of one that is part
            of a trace, its beginning has decided.
        service: what the process is, without the namespace.
        instance: which of them.
        version: of it.
    """
    resource = Resource.create(
        {
            "service.namespace": NAMESPACE,
            "service.name": f"{NAMESPACE}-{service}",
            "service.instance.id": instance,
            "service.version": version,
        }
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=resource,
        span_limits=SpanLimits(max_attributes=64, max_events=16),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=TIMEOUT_S
    )
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=EVERY_MS)
    )
    trace_with(provider.get_tracer(NAMESPACE))
    try:
        yield
    finally:
        trace_with(None)
        provider.shutdown()
