"""``recmesh explain``: why items were on a page, and why others were not."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

TIMEOUT_S = 60.0


def _print(console: Console, answer: recommendation_pb2.ExplainResponse) -> None:
    for item in answer.items:
        if item.outcome == recommendation_pb2.ITEM_OUTCOME_SHOWN:
            head = f"shown at rank {item.rank}"
        elif item.outcome == recommendation_pb2.ITEM_OUTCOME_DROPPED:
            head = f"not shown, dropped at {item.stage}: {item.rule}"
        else:
            head = f"not retrieved: {item.rule}"
        console.print(f"[bold]{escape(item.item_id)}[/bold]  {escape(head)}", highlight=False)
        if item.sources:
            console.print(f"  proposed by {', '.join(item.sources)}", style="dim")
        if item.contributions:
            console.print(_worth(item))
        if item.HasField("flip"):
            flip = item.flip
            verb = "leave" if item.outcome == recommendation_pb2.ITEM_OUTCOME_SHOWN else "be on"
            console.print(
                f"  would {verb} the page with {flip.objective} at {flip.flipped_weight:.3f} "
                f"instead of {flip.weight:.3f}",
                highlight=False,
            )
        elif item.contributions:
            console.print("  no change of one weight that was tried flips this", style="dim")


def _worth(item: recommendation_pb2.ItemExplanation) -> Table:
    table = Table("objective", "contributes", box=None, padding=(0, 2), show_header=False)
    total = sum(item.contributions.values())
    for name, worth in sorted(item.contributions.items(), key=lambda pair: -pair[1]):
        said = ""
        if name == "relevance" and item.scores:
            scores = sorted(item.scores.items(), key=lambda pair: -pair[1])
            said = "by " + ", ".join(f"{model} {score:.3f}" for model, score in scores)
        table.add_row(f"  {name}", f"{worth:.4f}", f"[dim]{escape(said)}[/dim]")
    table.add_row("  utility", f"[bold]{total:.4f}[/bold]", "")
    return table


def explain_command(
    request_id: Annotated[str, typer.Argument(help="The request; pages carry it.")],
    item_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Items, shown or not. Default: all that were shown."),
    ] = None,
    address: Annotated[
        str,
        typer.Option(help=f"Where the mesh listens. Default: the running one, {DEFAULT_ADDRESS}."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Say why items were on a page, and why others were not.

    Of each item: what every objective contributed, or the stage and the rule that dropped it, and
    the smallest change of one objective's weight that would flip the outcome.

    Examples:

        recmesh explain 5f0c6a2e-…

        recmesh explain 5f0c6a2e-… i000017 i000234 --json
    """
    request = recommendation_pb2.ExplainRequest(request_id=request_id, item_ids=item_ids or [])
    with clear_errors("recmesh explain"):
        edge = edge_of(Home.from_environment(), address)
    with edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        try:
            answer = stub.Explain(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            Console(stderr=True).print(
                f"[red]{error.code().name}[/red] {escape(error.details() or '')}"
            )
            raise typer.Exit(1) from None
    if as_json:
        typer.echo(MessageToJson(answer, preserving_proto_field_name=True))
    else:
        _print(Console(), answer)
