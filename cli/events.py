"""``recmesh events``: looks at what users did, and at what was not believed."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import grpc.aio
import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.events_prune import prune_command
from recmesh.cli.local_writer import local_writer
from recmesh.cli.written_data import opened_database
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.validation import validate
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog, QuarantinedEvent
from recmesh.storage.home import Home
from recmesh.v1 import feedback_pb2, feedback_pb2_grpc

TIMEOUT_S = 60.0
POLL_S = 0.5
PAGE = 200
"""Events read, or sent again, at a time."""

events_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Look at recorded and at quarantined events."
)
quarantine_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Events that were not believed, and why."
)
events_app.add_typer(quarantine_app, name="quarantine")
events_app.command("prune")(prune_command)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one event a line.")]
Caller = Annotated[str, typer.Option(help="Only this caller's events.")]
Record = Callable[[feedback_pb2.RecordEventsRequest], Awaitable[feedback_pb2.RecordEventsResponse]]


@contextmanager
def _log(home: Home) -> Iterator[EventLog | None]:
    """For reading; None when nobody wrote a database yet."""
    database = opened_database(home)
    try:
        yield EventLog(database) if database is not None else None
    finally:
        if database is not None:
            database.close()


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}


def _print_event(console: Console, row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_said(row)))
        return
    what = row["item_id"] or json.dumps(row["query"], ensure_ascii=False)
    words = [f"{row['event_type']:<10} {row['user_id']}  {what}"]
    words += [f"{row['surface']} {row['rank'] or ''}".rstrip()] if row["surface"] else []
    words += [f"campaign {row['campaign_id']}"] if row["campaign_id"] else []
    words += [row["experiment_arms"]] if row["experiment_arms"] else []
    words += [] if row["counted"] else ["not counted again"]
    at = row["received_at"].strftime("%Y-%m-%d %H:%M:%S")
    line = f"{row['seq']:>8}  {at}  {row['caller']}  {'  '.join(words)}"
    console.print(escape(line), soft_wrap=True, highlight=False)


@events_app.command("tail")
def tail_command(
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="Last events to show.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the last recorded events, oldest first. The mesh may run or not.

    Examples:

        recmesh events tail

        recmesh events tail -n 100 --follow --json
    """
    console = Console()
    with clear_errors("recmesh events tail"), _log(Home.from_environment()) as log:
        if log is None:
            if not as_json:
                console.print("nobody has recorded an event yet")
            return
        seq = max(log.read(limit=0).head_seq - number, 0)
        try:
            while True:
                batch = log.read(seq, limit=PAGE)
                for row in batch.events.to_pylist():
                    _print_event(console, row, as_json)
                seq = batch.through_seq
                if seq >= batch.head_seq:
                    if not follow:
                        return
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _pages(log: EventLog, caller: str, limit: float) -> Iterator[list[QuarantinedEvent]]:
    last, left = None, limit
    while left > 0:
        page = log.quarantined(limit=int(min(PAGE, left)), caller=caller, after=last)
        if not page:
            return
        yield page
        last, left = page[-1], left - len(page)


@quarantine_app.command("list")
def list_command(
    caller: Caller = "",
    limit: Annotated[int, typer.Option(min=1, help="Events to show, oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show quarantined events, oldest first, each with its reason.

    Examples:

        recmesh events quarantine list

        recmesh events quarantine list --caller mobile-app --limit 1000 --json
    """
    console = Console()
    with (
        clear_errors("recmesh events quarantine list"),
        _log(Home.from_environment()) as log,
    ):
        pages = _pages(log, caller, limit) if log is not None else iter(())
        table = Table("received", "caller", "event", "user", "item", "reason")
        for found in itertools.chain.from_iterable(pages):
            event = feedback_pb2.Event.FromString(found.event)
            received = datetime.fromtimestamp(found.received_at_ms / 1000, UTC)
            if as_json:
                said = MessageToDict(event, preserving_proto_field_name=True)
                row = {"caller": found.caller, "received_at": received, "reason": found.reason}
                typer.echo(json.dumps(_said(row) | {"event": said}))
            else:
                at = f"{received:%Y-%m-%d %H:%M:%S}"
                row_ = (at, found.caller, found.event_id, event.user_id, event.item_id)
                table.add_row(*map(escape, (*row_, found.reason)))
        if not as_json:
            counts = log.count_quarantined() if log is not None else {}
            if table.row_count:
                console.print(table)
            for reason, count in counts.items():
                console.print(f"{count:>8}  {escape(reason)}", highlight=False)
            console.print(f"{sum(counts.values()):>8}  events in quarantine", highlight=False)


@quarantine_app.command("retry")
def retry_command(caller: Caller = "", as_json: AsJson = False) -> None:
    """Check quarantined events again, as if they came now, and record those that are good.

    For when what was wrong has been mended: an item was missing from the catalogue, a signing
    key from the key file. Others stay, with the reason that holds now. Safe to repeat.

    Examples:

        recmesh events quarantine retry

        recmesh events quarantine retry --caller mobile-app --json
    """
    home = Home.from_environment()
    console = Console(stderr=as_json)
    with clear_errors("recmesh events quarantine retry"), _log(home) as log:
        counts: Counter[str] = Counter()
        if log is not None:
            try:
                with console.status("checking again"):
                    asyncio.run(_retry(home, log, caller, counts))
            except KeyboardInterrupt:
                raise typer.Exit(130) from None
        done = {name: counts[name] for name in ("ACCEPTED", "DUPLICATE", "QUARANTINED")}
        if as_json:
            typer.echo(json.dumps({name.lower(): count for name, count in done.items()}))
        else:
            console.print(
                f"{done['ACCEPTED'] + done['DUPLICATE']} recorded, {done['QUARANTINED']} stay"
            )


@asynccontextmanager
async def _recorder(home: Home) -> AsyncIterator[Record]:
    """Records in the running mesh; without one, this process is the writer."""
    running = running_mesh(home)
    if running is None:
        writer = local_writer(home)

        async def record(
            request: feedback_pb2.RecordEventsRequest,
        ) -> feedback_pb2.RecordEventsResponse:
            validate(request)
            answer = await writer.feedback.offered["RecordEvents"](request, math.inf)
            assert isinstance(answer, feedback_pb2.RecordEventsResponse)
            return answer

        try:
            await writer.start()
            yield record
        finally:
            await writer.close()
        return
    async with edge_of(home).aio_channel() as channel:
        stub = feedback_pb2_grpc.FeedbackServiceStub(channel)

        async def send(
            request: feedback_pb2.RecordEventsRequest,
        ) -> feedback_pb2.RecordEventsResponse:
            try:
                return await stub.RecordEvents(request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise UnavailableError(
                    f"the mesh on {running.address} answered {error.code().name}: {error.details()}"
                ) from error

        yield send


async def _retry(home: Home, log: EventLog, caller: str, counts: Counter[str]) -> None:
    async with _recorder(home) as record:
        pages = _pages(log, caller, math.inf)
        while page := await asyncio.to_thread(next, pages, None):
            for name, found in itertools.groupby(
                sorted(page, key=lambda e: e.caller), key=lambda e: e.caller
            ):
                events = [feedback_pb2.Event.FromString(event.event) for event in found]
                request = feedback_pb2.RecordEventsRequest(caller=name, events=events)
                response = await record(request)
                counts.update(
                    feedback_pb2.EventStatus.Name(o.status).removeprefix("EVENT_STATUS_")
                    for o in response.outcomes
                )
