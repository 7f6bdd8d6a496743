"""``recmesh trace``: one request, and what every part of the mesh did for it."""

from __future__ import annotations

import json as json_text
import secrets
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import grpc
import typer
from rich.console import Console
from rich.markup import escape

from recmesh.cli.waterfall import draw_waterfall, print_waterfall, rows
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.edge_channel import Edge, edge_of
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.span_receiver import SentSpan, SpanReceiver, spans_received
from recmesh.storage.errors import ConfigurationError, RecMeshError, UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

PICTURES = (".svg", ".png", ".pdf")
WAIT_S = 15.0
QUIET_S = 2.5
"""Longer than any part of the mesh waits before it sends its spans."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _endpoint(home: Home, address: str) -> str:
    """Where the mesh sends its spans."""
    running = running_mesh(home)
    if running is not None and address in ("", running.address):
        return running.otlp_endpoint
    return mesh_config(home).telemetry.otlp_endpoint


def _receiver(stack: ExitStack, endpoint: str) -> SpanReceiver | None:
    """Takes the collector's place; None: there is a collector, or it is to be elsewhere."""
    if not endpoint:
        raise ConfigurationError(
            "this mesh traces nothing; start it anew with "
            "RECMESH_TELEMETRY__OTLP_ENDPOINT=http://127.0.0.1:4317, or set "
            "telemetry.otlp_endpoint in its file"
        )
    place = urlsplit(endpoint)
    if place.hostname not in LOOPBACK or place.scheme != "http":
        return None
    try:
        return stack.enter_context(spans_received(place.netloc))
    except ConfigurationError:
        return None


def _asked(edge: Edge, request: recommendation_pb2.RecommendRequest, timeout_s: float) -> SentSpan:
    """Sends the request as the beginning of a trace that is to be recorded; returns that."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    metadata = (("traceparent", f"00-{trace_id}-{span_id}-01"),)
    with edge.channel() as channel:
        # Connecting is no part of a request.
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise UnavailableError(f"nobody answers on {edge.address}; run: recmesh up") from error
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        began_ns, failed = time.time_ns(), ""
        try:
            stub.Recommend(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            failed = error.code().name
        return SentSpan(
            service="caller",
            name=f"Recommend {request.surface}",
            trace_id=trace_id,
            span_id=span_id,
            parent_id="",
            start_unix_ns=began_ns,
            end_unix_ns=time.time_ns(),
            failed=bool(failed),
            attributes={"error.type": failed} if failed else {},
        )


def _collected(receiver: SpanReceiver, asked: SentSpan) -> list[SentSpan]:
    def of_trace(spans: list[SentSpan]) -> list[SentSpan]:
        return [span for span in spans if span.trace_id == asked.trace_id]

    def begun(spans: list[SentSpan]) -> bool:
        return any(span.parent_id == asked.span_id for span in of_trace(spans))

    if not receiver.wait(begun, WAIT_S, QUIET_S):
        raise UnavailableError(
            f"no spans came to {receiver.endpoint} within {WAIT_S:.0f} s; was the mesh started "
            f"with this otlp_endpoint?"
        )
    return [asked, *of_trace(receiver.spans())]


def trace_command(
    user_id: Annotated[str, typer.Argument(help="The doctor.")],
    surface: Annotated[str, typer.Option(help="feed, search, swipe or network.")] = "feed",
    query: Annotated[str, typer.Option(help="What the doctor typed; search only.")] = "",
    out: Annotated[
        Path | None, typer.Option(help=f"Draw it to a file: {', '.join(PICTURES)}.")
    ] = None,
    address: Annotated[
        str,
        typer.Option(help=f"Where the mesh listens. Default: the running one, {DEFAULT_ADDRESS}."),
    ] = "",
    timeout_s: Annotated[float, typer.Option(help="Deadline in seconds.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="The spans as JSON.")] = False,
) -> None:
    """Trace one request and show where its time went.

    Takes the place of the collector that the mesh sends its spans to. Where a collector runs, or is
    on another machine, the request is traced all the same, and this says under which id to look
    for it there.

    Examples:

        RECMESH_TELEMETRY__OTLP_ENDPOINT=http://127.0.0.1:4317 recmesh up --detach

        recmesh trace d000042

        recmesh trace d000042 --surface search --query "heart failure" --out trace.svg
    """
    if out is not None and out.suffix not in PICTURES:
        raise typer.BadParameter(f"{out} must end in one of {', '.join(PICTURES)}")
    console = Console(stderr=json)
    request = recommendation_pb2.RecommendRequest(surface=surface, user_id=user_id, query=query)
    try:
        with ExitStack() as stack:
            home = Home.from_environment()
            endpoint = _endpoint(home, address)
            receiver = _receiver(stack, endpoint)
            asked = _asked(edge_of(home, address), request, timeout_s)
            if receiver is None:
                console.print(f"trace {asked.trace_id}: look for it where {endpoint} keeps them")
                return
            with console.status("waiting for spans"):
                spans = _collected(receiver, asked)
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None
    _show(console, spans, json, out)


def _show(console: Console, spans: list[SentSpan], as_json: bool, out: Path | None) -> None:
    waterfall = rows(spans)
    if as_json:
        told: list[dict[str, Any]] = [asdict(row.span) for row in waterfall]
        typer.echo(json_text.dumps(told))
    else:
        print_waterfall(console, waterfall)
        known = [s.attributes.get("enduser.pseudo.id") for s in spans]
        pseudonym = next(filter(None, known), "")
        console.print(f"  trace {spans[0].trace_id}, the doctor is {pseudonym} in it", style="dim")
    if out is not None:
        title = f"{spans[0].name}: {spans[0].took_ms:.0f} ms, {len(spans)} spans"
        draw_waterfall(waterfall, title, out)
        console.print(f"  drawn to {out}", style="dim")
