"""Spans of a request, by OpenTelemetry's interface; nothing at all where nobody looks.

A trace begins at the edge or in the server that a caller reached, and who decides there whether it
is recorded decides for all behind it. Within a request that is not recorded, a span costs a look at
one variable.

What goes wrong is told by its type or code. Messages of errors are left out: they may quote what a
caller wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from recmesh.storage.telemetry.current_call import CURRENT_CALL

Metadata = Iterable[tuple[str, str | bytes]]

TRACEPARENT = "traceparent"
"""Metadata by which a trace goes on in the next process: W3C Trace Context."""

NOT_RECORDED = "-00"
"""Ends a ``traceparent`` whose trace nobody records."""

_NOTHING: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
_CONTEXT = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """Records this process' spans with a tracer; None: records none."""
    global _tracer
    _tracer = tracer


def is_tracing() -> bool:
    """Whether any request of this process may be recorded."""
    return _tracer is not None


def recorded_span() -> Span | None:
    """The innermost span; None where the request is not recorded."""
    call = CURRENT_CALL.get()
    # First what costs least: of most requests nothing is recorded.
    if _tracer is None or call is None or not call.trace_id:
        return None
    span = trace.get_current_span()
    return span if span.is_recording() else None


def span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Span]:
    """A span within the one that is open; nothing where the request is not recorded."""
    if _tracer is None or recorded_span() is None:
        return _NOTHING
    # An exception's text may quote a caller.
    return _tracer.start_as_current_span(
        name, kind=kind, record_exception=False, set_status_on_exception=False
    )


def named(name: str) -> None:
    """Gives the innermost span the name that is only known further in."""
    found = recorded_span()
    if found is not None:
        found.update_name(name)


def served_span(name: str, metadata: Metadata, *, begins_traces: bool) -> Span | None:
    """The span of a call that a server answers, entered; None: it is not recorded.

    Args:
        name: of the method.
        metadata: of the call.
        begins_traces: a call of no trace may begin one; false between parts of the mesh, where
            a call without one is a call that nobody records.

    The caller ends it. It stays the current one for the rest of the task.
    """
    if _tracer is None:
        return None
    parent = next((str(value) for key, value in metadata if key == TRACEPARENT), "")
    if parent.endswith(NOT_RECORDED) or not (parent or begins_traces):
        return None
    carrier = {TRACEPARENT: parent} if parent else {}
    found = _tracer.start_span(
        name, context=_CONTEXT.extract(carrier, context.Context()), kind=SpanKind.SERVER
    )
    if not found.is_recording():
        return None
    call = CURRENT_CALL.get()
    if call is not None:
        call.trace_id = f"{found.get_span_context().trace_id:032x}"
    context.attach(trace.set_span_in_context(found))
    return found


def handed_on() -> tuple[tuple[str, str], ...]:
    """Metadata that continues the trace in the next process; none where nothing is recorded."""
    if recorded_span() is None:
        return ()
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier)
    return ((TRACEPARENT, carrier[TRACEPARENT]),)


def failed(span: Span, what: str) -> None:
    """Marks a span as failed; ``what`` is a type or a code, never a message."""
    span.set_attribute("error.type", what)
    span.set_status(Status(StatusCode.ERROR))
