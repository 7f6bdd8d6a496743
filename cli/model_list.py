"""``recmesh model list``: versions of models, and what each is used for."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.open_registry import open_registry
from recmesh.storage.home import Home
from recmesh.storage.model_stage import Stage


def moment(milliseconds: int) -> str:
    """A moment for people, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def list_command(
    stage: Annotated[Stage | None, typer.Option(help="Only versions in this stage.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Lists every model's versions by stage, with who answers for them.

    Examples:

        recmesh model list

        recmesh model list --stage live
    """
    home = Home.from_environment()
    with (
        clear_errors("recmesh model list"),
        open_registry(home, mesh_config(home).database.uri) as registry,
    ):
        found = [one for one in registry.versions() if stage in (None, one.stage)]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    if not found:
        typer.echo("no version yet; make one: recmesh train")
        return
    table = Table(
        "model", "stage", Column("version", no_wrap=True), "owner", "contact", "registered"
    )
    for one in found:
        table.add_row(
            one.model, one.stage, one.version, one.owner, one.contact, moment(one.registered_at)
        )
    Console().print(table)
