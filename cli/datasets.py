"""``recmesh datasets``: public data sets into the interchange format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recmesh.offline.datasets.registry import CONVERTERS, convert
from recmesh.storage.errors import RecMeshError

datasets_app = typer.Typer(
    add_completion=False, help="Public data sets as interchange files.", no_args_is_help=True
)


@datasets_app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Names as JSON.")] = False,
) -> None:
    """List the data sets that can be converted."""
    typer.echo(json.dumps(list(CONVERTERS)) if as_json else "\n".join(CONVERTERS))


@datasets_app.command("convert")
def convert_command(
    name: Annotated[str, typer.Argument(help="A name of `recmesh datasets list`.")],
    source: Annotated[Path, typer.Argument(help="The data set as downloaded.")],
    out: Annotated[Path, typer.Argument(help="Folder for the Parquet files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Row counts as JSON.")] = False,
) -> None:
    """Convert a downloaded data set to files for `recmesh ingest`.

    Queries and judgements, where the data set has them, are written beside the tables as
    queries.jsonl and qrels.tsv. What is left out is counted, with the reason.

    Examples:

        recmesh datasets convert lastfm-2k hetrec2011-lastfm-2k/ lastfm/

        recmesh datasets convert medquad MedQuAD.tar.gz medquad/ --json
    """
    try:
        with Console(stderr=True).status(f"converting {name}"):
            report = convert(name, source, out)
    except RecMeshError as error:
        typer.echo(f"recmesh datasets: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(report.as_json())
        return
    for table, count in report.rows.items():
        typer.echo(f"{table} {count:,}")
    for reason, count in report.left_out.items():
        typer.echo(f"left out: {count:,} {reason}")
