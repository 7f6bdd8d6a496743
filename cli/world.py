"""``recmesh world``: a synthetic world of doctors whose true preferences are known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.storage.errors import RecMeshError

app = typer.Typer(
    add_completion=False,
    help="A synthetic world of doctors with known truth.",
    no_args_is_help=True,
)


@app.callback()
def world() -> None:
    """A synthetic world of doctors with known truth."""


@app.command("generate")
def generate_command(
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("world"),
    doctors: Annotated[int, typer.Option(min=2)] = WorldConfig().doctors,
    items: Annotated[
        int | None,
        typer.Option(min=1, help="Default: 4000; with --catalogue, all. Fewer: drawn evenly."),
    ] = None,
    days: Annotated[int, typer.Option(min=1)] = WorldConfig().days,
    seed: Annotated[int, typer.Option(min=0)] = WorldConfig().seed,
    ends: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="Midnight (UTC) at which the last day ends and the booked campaigns begin. "
            "Default: the last one, so that items are fresh and campaigns run when it is served.",
            show_default=False,
        ),
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="Folder with items.parquet, .csv or .jsonl to use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Writes doctors, items, events, edges and campaigns, and the truth beside them.

    Examples:
        recmesh world generate
        recmesh world generate --out /tmp/world --doctors 500 --days 30 --seed 1
        recmesh world generate --catalogue medquad --items 2000
        recmesh world generate --ends 2026-04-01     # equal parameters give equal bytes
    """
    count = items or WorldConfig().items
    midnight = ends or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        start = midnight.replace(tzinfo=UTC) - timedelta(days=days)
    except OverflowError:
        raise typer.BadParameter(f"{days} days before {midnight:%Y-%m-%d} is no date") from None
    config = WorldConfig(doctors=doctors, items=count, days=days, seed=seed, start=start)
    try:
        with Progress(console=Console(stderr=True), disable=as_json) as progress:
            task = progress.add_task("days simulated", total=days)
            rows = generate(out, config, catalogue, lambda: progress.advance(task), items)
    except RecMeshError as error:
        typer.echo(f"recmesh world: {error}", err=True)
        raise typer.Exit(1) from error
    listed = ", ".join(f"{count} {name}" for name, count in rows.items())
    typer.echo(json.dumps(rows) if as_json else f"{out}: {listed}")
