"""``recmesh embed list``: which embedding versions there are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.storage.embedding_registry import EmbeddingRegistry, State
from recmesh.storage.home import Home


def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for scripts.")] = False,
) -> None:
    """Shows every embedding version, and which one a rollback leads to.

    Examples:

        recmesh embed list

        recmesh embed list --json
    """
    registry = EmbeddingRegistry(Home.from_environment().vectors)
    with clear_errors("recmesh embed list"):
        records, previous = registry.records(), registry.previous()
    if as_json:
        found = [asdict(record) for record in records]
        typer.echo(
            json.dumps({"previous": previous.collection if previous else None, "versions": found})
        )
        return
    table = Table("state", "since (UTC)", "items")
    # It is what the other commands take, so it is never cut.
    table.add_column("version", overflow="fold", min_width=44)
    for record in records:
        live = record.state is State.LIVE
        back = previous is not None and record.collection == previous.collection
        table.add_row(
            f"[green]{record.state}[/green]" if live else record.state + (" ←" if back else ""),
            record.times.get(record.state, "")[:16].replace("T", " "),
            str(record.count),
            record.version,
        )
    Console().print(table)
    if previous is not None:
        typer.echo("← recmesh embed rollback leads there")
