from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from rich.console import Console
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.cli.waterfall import draw_waterfall, print_waterfall, rows
from recmesh.deployments.span_receiver import SentSpan, SpanReceiver, spans_received
from recmesh.storage.errors import ConfigurationError

MS = 1_000_000


def span(name: str, parent: str, start_ms: int, end_ms: int, **more: object) -> SentSpan:
    return SentSpan(
        "recmesh-orchestrator", name, "t", name, parent, start_ms * MS, end_ms * MS, **more
    )  # type: ignore[arg-type]


SPANS = [
    span("score", "page", 12, 18, attributes={"recmesh.candidates": 38}),
    span("cf Retrieve", "retrieve", 3, 9, failed=True, attributes={"error.type": "timeout"}),
    span("retrieve", "page", 2, 11, attributes={"recmesh.candidates": 40}),
    span("page", "from-elsewhere", 1, 20),
]


def test_parents_come_before_children_and_these_by_their_start() -> None:
    found = [(row.span.name, row.depth, row.from_ms, row.note) for row in rows(SPANS)]
    assert found == [
        ("page", 0, 0, ""),
        ("retrieve", 1, 1, "40 candidates"),
        ("cf Retrieve", 2, 2, "timeout"),
        ("score", 1, 11, "38 candidates"),
    ]
    assert rows([]) == []


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_picture_is_the_same_for_the_same_trace(tmp_path: Path, kind: str) -> None:
    one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
    for out in (one, two):
        draw_waterfall(rows(SPANS), "a page", out)
    assert one.read_bytes() == two.read_bytes()


def test_the_terminal_shows_every_span() -> None:
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_waterfall(console, rows(SPANS))
    text = console.export_text()
    for one in SPANS:
        assert one.name in text


def test_a_receiver_waits_until_nothing_more_comes() -> None:
    receiver = SpanReceiver()
    assert not receiver.wait(lambda spans: bool(spans), 0.01)
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "recmesh-cf"
    sent = resource.scope_spans.add().spans.add(name="a", trace_id=b"\1" * 16)
    sent.attributes.add(key="n").value.int_value = 7
    receiver.Export(request, None)  # type: ignore[arg-type]
    assert receiver.wait(lambda spans: bool(spans), 1.0, 0.01)
    (found,) = receiver.spans()
    assert (found.service, found.trace_id, found.attributes["n"]) == ("recmesh-cf", "01" * 16, 7)


def test_a_place_that_is_taken_is_a_clear_error() -> None:
    with (
        spans_received() as one,
        pytest.raises(ConfigurationError, match="somebody else"),
        spans_received(one.endpoint.removeprefix("http://")),
    ):
        pass


def test_a_mesh_that_traces_nothing_says_how_to_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    outcome = CliRunner().invoke(app, ["trace", "d1"])
    assert outcome.exit_code == 1
    assert "OTLP_ENDPOINT" in outcome.output
    assert CliRunner().invoke(app, ["trace", "d1", "--out", "a.gif"]).exit_code == 2
