from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from recmesh.deployments.call_watch import CallWatch
from recmesh.orchestrator.stage import Stage
from recmesh.storage.errors import InvalidRequestError, UnavailableError
from recmesh.storage.telemetry.spans import handed_on, recorded_span, span, trace_with

RECORDED = (("traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"),)
NOT_RECORDED = (("traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"),)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Traces that begin here are not recorded."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace_with(provider.get_tracer("test"))
    yield kept
    trace_with(None)


def test_nothing_is_recorded_and_nothing_handed_on_while_nobody_traces() -> None:
    call = CallWatch("s", "M", begins_traces=True).begin(RECORDED)
    with span("inner"), Stage("retrieve") as stage:
        stage.left(3)
        assert recorded_span() is None
        assert handed_on() == ()
    call.end()


async def test_a_recorded_call_has_its_stages_and_hands_the_trace_on(
    exporter: InMemorySpanExporter,
) -> None:
    async def handler() -> None:
        call = CallWatch("recmesh.v1.S", "M", begins_traces=True).begin(RECORDED)
        with Stage("retrieve") as stage:
            stage.left(3)
            (handed,) = handed_on()
            assert handed[1].startswith("00-" + "ab" * 16)
        call.failed(UnavailableError("reader's page"))
        call.end()

    await asyncio.create_task(handler())
    stage_span, server = exporter.get_finished_spans()
    assert stage_span.name == "retrieve"
    assert dict(stage_span.attributes or {}) == {"recmesh.candidates": 3}
    assert (stage_span.parent and stage_span.parent.span_id) == server.context.span_id
    assert server.name == "recmesh.v1.S/M"
    assert (server.attributes or {})["error.type"] == "UNAVAILABLE"
    assert "reader" not in server.to_json()


@pytest.mark.parametrize(("metadata", "begins"), [(NOT_RECORDED, True), ((), True), ((), False)])
async def test_who_began_the_trace_has_decided(
    exporter: InMemorySpanExporter, metadata: tuple[tuple[str, str], ...], begins: bool
) -> None:
    async def handler() -> None:
        call = CallWatch("s", "M", begins_traces=begins).begin(metadata)
        with span("inner"):
            assert handed_on() == ()
        call.end()

    await asyncio.create_task(handler())
    assert exporter.get_finished_spans() == ()


async def test_errors_of_callers_do_not_make_a_span_fail(exporter: InMemorySpanExporter) -> None:
    async def handler() -> None:
        call = CallWatch("s", "M", begins_traces=True).begin(RECORDED)
        call.failed(InvalidRequestError("query", "too long"))
        call.end()

    await asyncio.create_task(handler())
    (server,) = exporter.get_finished_spans()
    assert server.status.is_unset
    assert (server.attributes or {})["rpc.response.status_code"] == "INVALID_ARGUMENT"


async def test_what_an_exception_says_is_in_no_span(exporter: InMemorySpanExporter) -> None:
    found: list[ReadableSpan] = []

    async def handler() -> None:
        call = CallWatch("s", "M", begins_traces=True).begin(RECORDED)
        with pytest.raises(KeyError), Stage("blend"):
            raise KeyError("d000042")
        call.end()

    await asyncio.create_task(handler())
    found.extend(exporter.get_finished_spans())
    assert "d000042" not in "".join(one.to_json() for one in found)
    assert (found[0].attributes or {})["error.type"] == "KeyError"
