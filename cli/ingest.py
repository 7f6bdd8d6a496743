"""``recmesh ingest``: a folder of source files into the data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from recmesh.cli.written_data import written_overlay
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home
from recmesh.storage.ingest import IngestReport, ingest


def _print(report: IngestReport) -> None:
    names = ("read", "added", "updated", "unchanged", "superseded", "quarantined", "erased")
    table = Table("table", *names, title=f"data set {report.version}")
    for name, counts in report.tables.items():
        table.add_row(name, *(f"{getattr(counts, n):,}" for n in names))
    console = Console()
    console.print(table)
    if report.skipped_files:
        console.print(f"  unchanged files: {', '.join(report.skipped_files)}")
    for name, reason in report.damaged_files.items():
        console.print(f"  [red]damaged file[/red] {name}: {reason}")
    outranked = sum(counts.outranked for counts in report.tables.values())
    if outranked:
        console.print(f"  {outranked:,} rows outranked by what callers wrote")
    for warning in report.warnings:
        console.print(f"  [yellow]warning[/yellow] {warning}")
    console.print(f"  events of unknown items: {report.events_of_unknown_items:,}")
    console.print(f"  events of unknown users: {report.events_of_unknown_users:,}")


def ingest_command(
    folder: Annotated[Path, typer.Argument(help="Folder of Parquet, CSV or JSONL files.")],
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Check a folder's files and add their rows to the data set.

    Bad rows, and files that cannot be read, go to the quarantine with a reason; the rest is
    taken. Interrupted, it leaves the data set as it was.

    Examples:

        recmesh ingest data/

        recmesh ingest data/ --json
    """
    home = Home.from_environment()
    try:
        with Progress(console=Console(stderr=True), disable=as_json) as progress:
            task = progress.add_task("ingest", total=None)

            def show(done: int, total: int, name: str) -> None:
                progress.update(task, completed=done, total=total, description=name)

            report = ingest(folder, home.dataset, show, written_overlay(home))
    except RecMeshError as error:
        typer.echo(f"recmesh ingest: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    _print(report)
    quarantined = sum(counts.quarantined for counts in report.tables.values())
    if quarantined:
        typer.echo(f"  {quarantined:,} bad rows: {home.dataset / 'quarantine'}")
