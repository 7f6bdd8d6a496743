"""``recmesh model history``: what was done to a model, when and by whom."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.model_list import moment
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.open_registry import open_registry
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home


def history_command(
    name: Annotated[str, typer.Argument(help="The model.")],
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Shows everything that was done to a model, oldest first.

    "reconciled" is what the registry found and nobody told it: newly trained versions, versions
    that training or retraining made live, and what a command that was killed left to be done.

    Examples:

        recmesh model history cf
    """
    home = Home.from_environment()
    with (
        clear_errors("recmesh model history"),
        open_registry(home, mesh_config(home).database.uri) as registry,
    ):
        found = registry.history(name)
        if not found:
            raise NotFoundError(f"nothing was ever done to a model {name!r}")
    if as_json:
        typer.echo(json.dumps([asdict(change) for change in found]))
        return
    table = Table("", "at", "by", "did", Column("version", no_wrap=True), "stage", "detail")
    for change in found:
        stages = [stage for stage in (change.from_stage, change.to_stage) if stage]
        table.add_row(
            str(change.seq),
            moment(change.at),
            escape(change.by),
            change.did,
            change.version,
            " → ".join(stages),
            escape(change.detail),
        )
    Console().print(table)
