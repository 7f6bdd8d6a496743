"""``recmesh events prune``: deletes events that were kept long enough."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import mesh_config
from recmesh.storage.database import Database
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.event_retention import EventRetention, OldEvents
from recmesh.storage.home import Home

DAY_MS = 86_400_000
DAYS = {"d": 1, "w": 7, "y": 365}
LEAST_DAYS = 31.0
"""As of `[events] keep_days`: late events are believed for 30 days, and known by their rows."""


def prune_command(
    older_than: Annotated[
        str, typer.Option(help="Age, such as 400d, 60w or 2y. Default: [events] keep_days.")
    ] = "",
    forget: Annotated[
        list[str] | None,
        typer.Option(help="A consumer that is gone: nothing is kept for it. May be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be deleted, delete nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Deletes the oldest events, recorded and quarantined, by when they were received.

    What they counted for campaigns stays counted, numbers and positions stay as they are, and what
    a consumer has not taken is kept. A mesh that runs deletes what is older than its [events]
    keep_days by itself; beside it, this works with PostgreSQL only. Safe to repeat.

    Examples:

        recmesh events prune --older-than 400d --dry-run

        recmesh events prune --older-than 400d

        recmesh events prune --older-than 2y --forget read-counts --json
    """
    home = Home.from_environment()
    config = mesh_config(home)
    with clear_errors("recmesh events prune"):
        days = _days(older_than) if older_than else config.events.keep_days
        if not config.database.uri and not home.database.is_file():
            raise NotFoundError(f"nothing was recorded yet: there is no {home.database}")
        database = Database.for_writing(config.database.uri, home.database)
        before_ms = int(1000 * time.time() - days * DAY_MS)
        try:
            retention = EventRetention(database)
            for consumer in forget or ():
                if not dry_run and not retention.forget(consumer):
                    raise NotFoundError(f"--forget {consumer}: there is no such consumer")
            found = retention.old(before_ms)
            deleted = 0 if dry_run else _pruned(retention.prune, before_ms, found, as_json)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            database.close()
    _say(found, deleted, days, dry_run, as_json)


def _days(age: str) -> float:
    parsed = re.fullmatch(r"(\d+(?:\.\d+)?)([dwy])", age.strip())
    if parsed is None:
        raise ConfigurationError(f"--older-than {age}: write a number and d, w or y, as in 400d")
    days = float(parsed[1]) * DAYS[parsed[2]]
    if days < LEAST_DAYS:
        raise ConfigurationError(
            f"--older-than {age}: at least {LEAST_DAYS:g} days; an event that is sent again "
            "is known by its row for as long as it is believed"
        )
    return days


def _pruned(prune: Callable[[int], int], before_ms: int, found: OldEvents, quiet: bool) -> int:
    deleted = 0
    with progress_bars(quiet) as bars:
        task = bars.add_task("delete", total=found.recorded + found.quarantined)
        while some := prune(before_ms):
            deleted += some
            bars.update(task, completed=deleted)
    return deleted


def _say(found: OldEvents, deleted: int, days: float, dry_run: bool, as_json: bool) -> None:
    if as_json:
        said = {
            "older_than_days": days,
            "events": found.recorded,
            "quarantined": found.quarantined,
            "deleted": deleted,
            "held_back": [{"consumer": one.consumer, "seq": one.seq} for one in found.held_back],
        }
        typer.echo(json.dumps(said))
        return
    console = Console()
    done = "nothing was deleted" if dry_run else f"{deleted:,} deleted"
    console.print(
        f"{found.recorded:,} events and {found.quarantined:,} quarantined ones are older than "
        f"{days:g} days: {done}.",
        highlight=False,
    )
    for one in found.held_back:
        console.print(
            f"{escape(one.consumer)} has taken events up to {one.seq:,} only: later ones are kept "
            f"for it. If it is gone: --forget {escape(one.consumer)}",
            highlight=False,
        )
