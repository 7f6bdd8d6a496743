"""``recmesh call``: one request to a running mesh, answered for people or for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recmesh.cli.clear_errors import clear_errors
from recmesh.deployments.edge_channel import CallerSettings, edge_of
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc

FACETS = (
    recommendation_pb2.FACET_FIELD_CONTENT_TYPE,
    recommendation_pb2.FACET_FIELD_SPECIALTY,
    recommendation_pb2.FACET_FIELD_YEAR,
)
FACET_VALUES = 6
"""Drawn of each."""


def _marked(text: recommendation_pb2.HighlightedText) -> Text:
    drawn = Text(text.text)
    for mark in text.highlights:
        drawn.stylize("bold yellow", mark.start, mark.end)
    return drawn


def _print_found(console: Console, response: recommendation_pb2.RecommendResponse) -> None:
    """Draws what a search found: titles, snippets, counts."""
    if response.corrected_query:
        console.print(f'searched for [bold]"{escape(response.corrected_query)}"[/bold]')
    for slot in response.recommendations:
        console.print(
            Text(f"{slot.rank:>3}  ")
            .append_text(_marked(slot.title))
            .append(f"  {slot.item_id}  {slot.score:.3f}", style="dim")
        )
        if slot.snippet.text:
            console.print(Padding(_marked(slot.snippet), (0, 0, 0, 5)))
    for facet in response.facets:
        name = recommendation_pb2.FacetField.Name(facet.field).removeprefix("FACET_FIELD_")
        counts = ", ".join(f"{v.value} {v.count}" for v in facet.values[:FACET_VALUES])
        if counts:
            console.print(f"  {name.lower():<13} {escape(counts)}", style="dim", highlight=False)


def print_page(console: Console, response: recommendation_pb2.RecommendResponse) -> None:
    """Draws one page with its sources."""
    if any(slot.HasField("title") for slot in response.recommendations):
        _print_found(console, response)
    else:
        _print_slots(console, response)
    _print_sources(console, response)


def _print_slots(console: Console, response: recommendation_pb2.RecommendResponse) -> None:
    table = Table("", "item", "score", "sources", "reason", title=f"request {response.request_id}")
    for slot in response.recommendations:
        table.add_row(
            str(slot.rank), slot.item_id, f"{slot.score:.3f}", ", ".join(slot.sources), slot.reason
        )
    console.print(table)


def _print_sources(console: Console, response: recommendation_pb2.RecommendResponse) -> None:
    for status in response.sources:
        state = common_pb2.SourceState.Name(status.state).removeprefix("SOURCE_STATE_").lower()
        latency_ms = status.latency.ToMicroseconds() / 1000
        detail = status.detail
        if status.HasField("answer_age"):
            detail += f"; what it proposed {status.answer_age.ToSeconds()} s ago stands in"
        console.print(
            f"  {status.name:<13} {state:<12} {latency_ms:6.1f} ms  {detail}", style="dim"
        )
    console.print(
        f"  {response.latency.ToMicroseconds() / 1000:.1f} ms, policy {response.versions.policy}"
        + (", degraded" if response.degraded else "")
    )
    arms = ", ".join(f"{name} {arm}" for name, arm in response.versions.experiment_arms.items())
    if arms:
        console.print(f"  experiments: {arms}", highlight=False)


def call_command(
    user_id: Annotated[str, typer.Argument(help="The doctor. Not with --data.")] = "",
    surface: Annotated[str, typer.Option(help="feed, search, swipe or network.")] = "feed",
    query: Annotated[str, typer.Option(help="What the doctor typed; search only.")] = "",
    page_size: Annotated[int, typer.Option(help="Items; 0 is the surface's default.")] = 0,
    address: Annotated[
        str,
        typer.Option(help=f"Where the mesh listens. Default: the running one, {DEFAULT_ADDRESS}."),
    ] = "",
    timeout_s: Annotated[float, typer.Option(help="Deadline in seconds.")] = 1.0,
    data: Annotated[
        str, typer.Option("--data", "-d", help="The whole RecommendRequest as JSON.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="The response as JSON.")] = False,
    caller: Annotated[
        str, typer.Option(help="As whom to call a secure mesh of this home folder. [operator]")
    ] = "",
    authority: Annotated[
        Path | None, typer.Option(help="PEM of who signed the edge's certificate, elsewhere.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM of yours, with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM of its key.")] = None,
    token: Annotated[str, typer.Option(help="Bearer token; with --authority.")] = "",
) -> None:
    """Ask a running mesh for one page.

    A secure mesh of this home folder is called with its development certificates. For another
    one give --authority, and --token or --certificate and --key; every command that calls a mesh
    reads them in RECMESH_CALLER_AUTHORITY and so on, too. A token on a command line is seen by
    others on the machine: prefer the variable.

    Examples:

        recmesh call d42

        recmesh call d42 --surface search --query "heart failure" --json

        recmesh call d42 --address mesh:50051 --authority ca.pem --certificate me.pem --key me.key

        recmesh call -d '{"surface": "feed", "user_id": "d42", "page_size": 3}'
    """
    if bool(user_id) == bool(data):
        raise typer.BadParameter("name a doctor, or give the request with --data")
    request = recommendation_pb2.RecommendRequest(
        surface=surface,
        user_id=user_id,
        query=query,
        page_size=page_size,
        explain=True,
        snippets=bool(query),
        facets=FACETS if query else (),
    )
    if data:
        try:
            request = Parse(data, recommendation_pb2.RecommendRequest())
        except ParseError as error:
            raise typer.BadParameter(f"--data is no RecommendRequest: {error}") from None
    with clear_errors("recmesh call"):
        said = CallerSettings.load(
            name=caller, authority=authority, certificate=certificate, key=key, token=token
        )
        edge = edge_of(Home.from_environment(), address, said)
    with edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        try:
            response = stub.Recommend(request, timeout=timeout_s)
        except grpc.RpcError as error:
            Console(stderr=True).print(
                f"[red]{error.code().name}[/red] {escape(error.details() or '')}"
            )
            raise typer.Exit(1) from None
    if json or data:
        typer.echo(MessageToJson(response, preserving_proto_field_name=True))
    else:
        print_page(Console(), response)
