"""``recmesh call``: one request to a running mesh, answered for people or for scripts."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"


def print_page(console: Console, response: recommendation_pb2.RecommendResponse) -> None:
    """Draws one page with its sources."""
    table = Table("", "item", "score", "sources", "reason", title=f"request {response.request_id}")
    for slot in response.recommendations:
        table.add_row(
            str(slot.rank), slot.item_id, f"{slot.score:.3f}", ", ".join(slot.sources), slot.reason
        )
    console.print(table)
    for status in response.sources:
        state = common_pb2.SourceState.Name(status.state).removeprefix("SOURCE_STATE_").lower()
        latency_ms = status.latency.ToMicroseconds() / 1000
        console.print(
            f"  {status.name:<13} {state:<12} {latency_ms:6.1f} ms  {status.detail}", style="dim"
        )
    console.print(
        f"  {response.latency.ToMicroseconds() / 1000:.1f} ms, policy {response.versions.policy}"
        + (", degraded" if response.degraded else "")
    )


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
) -> None:
    """Ask a running mesh for one page.

    Examples:

        recmesh call d42

        recmesh call d42 --surface search --query "heart failure" --json

        recmesh call -d '{"surface": "feed", "user_id": "d42", "page_size": 3}'
    """
    if bool(user_id) == bool(data):
        raise typer.BadParameter("name a doctor, or give the request with --data")
    request = recommendation_pb2.RecommendRequest(
        surface=surface, user_id=user_id, query=query, page_size=page_size, explain=True
    )
    if data:
        try:
            request = Parse(data, recommendation_pb2.RecommendRequest())
        except ParseError as error:
            raise typer.BadParameter(f"--data is no RecommendRequest: {error}") from None
    if not address:
        running = running_mesh(Home.from_environment())
        address = running.address if running else DEFAULT_ADDRESS
    with grpc.insecure_channel(address) as channel:
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
