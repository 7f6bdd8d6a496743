"""``recmesh swipe``: a session of cards in the terminal."""

from __future__ import annotations

import queue
import sys
from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.markup import escape

from recmesh.cli.clear_errors import clear_errors
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc

KEYS = {
    "s": common_pb2.EVENT_TYPE_SWIPE,
    "d": common_pb2.EVENT_TYPE_DISMISS,
    "c": common_pb2.EVENT_TYPE_CLICK,
    "v": common_pb2.EVENT_TYPE_SAVE,
}
QUIT = "q"
ASKED = "[dim]s: more of this, d: less, c: open, v: save, q: quit[/dim] "


def _answer(console: Console) -> common_pb2.EventType.ValueType | None:
    """What the user does with the card; None: they quit."""
    while True:
        console.print(ASKED, end="")
        line = sys.stdin.readline()
        key = line.strip().lower()
        if not line or key == QUIT:
            return None
        if key in KEYS:
            return KEYS[key]
        console.print(f"[red]{escape(key)}[/red] is none of {', '.join(KEYS)}, {QUIT}")


def _draw(card: recommendation_pb2.SwipeResponse, number: int, json: bool) -> None:
    if json:
        typer.echo(MessageToJson(card, indent=None, preserving_proto_field_name=True))
        return
    text = f"{number:>3}  [bold]{escape(card.card.item_id)}[/bold]  {card.card.score:.3f}"
    if card.card.HasField("sponsorship"):
        text += f"  {escape(card.card.sponsorship.disclosure)}"
    Console().print(text + ("  [yellow]degraded[/yellow]" if card.degraded else ""))


def swipe_command(
    user_id: Annotated[str, typer.Argument(help="The doctor.")],
    session_id: Annotated[str, typer.Option(help="Session to resume. Default: a new one.")] = "",
    address: Annotated[
        str,
        typer.Option(help=f"Where the mesh listens. Default: the running one, {DEFAULT_ADDRESS}."),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Every card as a line of JSON.")] = False,
) -> None:
    """Be dealt cards by a running mesh, one by one, and see how they follow what you do.

    Actions are recorded as the doctor's events.

    Examples:

        recmesh swipe d42

        printf 's\\nd\\ns\\n' | recmesh swipe d42 --json
    """
    console = Console(stderr=True)
    sent: queue.SimpleQueue[recommendation_pb2.SwipeRequest | None] = queue.SimpleQueue()
    start = recommendation_pb2.SwipeStart(user_id=user_id, session_id=session_id)
    sent.put(recommendation_pb2.SwipeRequest(start=start))
    with clear_errors("recmesh swipe"):
        edge = edge_of(Home.from_environment(), address)
    with edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        try:
            for number, card in enumerate(stub.Swipe(iter(sent.get, None)), start=1):
                session_id = card.session_id
                _draw(card, number, json)
                kind = _answer(console)
                if kind is None:
                    break
                action = recommendation_pb2.SwipeAction(item_id=card.card.item_id, event_type=kind)
                sent.put(recommendation_pb2.SwipeRequest(action=action))
            else:
                console.print("no card is left")
                return
        except KeyboardInterrupt:
            console.print()
        except grpc.RpcError as error:
            console.print(f"[red]{error.code().name}[/red] {escape(error.details() or '')}")
            raise typer.Exit(1) from None
        finally:
            sent.put(None)
    if session_id:
        console.print(
            f"resume with: recmesh swipe {escape(user_id)} --session-id={session_id}",
            style="dim",
            soft_wrap=True,
        )
