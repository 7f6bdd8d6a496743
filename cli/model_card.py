"""``recmesh model card``: what must be known about a version to trust it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.open_registry import open_registry
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home
from recmesh.storage.model_stage import Stage


def card_command(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Default: the live one.")],
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Shows a version's card: its owner, data, parameters, what was measured, and its limits.

    Examples:

        recmesh model card cf

        recmesh model card cf@5d1e37d2 --json
    """
    home = Home.from_environment()
    model, _, version = name.partition("@")
    with (
        clear_errors("recmesh model card"),
        open_registry(home, mesh_config(home).database.uri) as registry,
    ):
        found = registry.get(model, version) if version else registry.in_stage(model, Stage.LIVE)
        if found is None:
            raise NotFoundError(
                f"model {model} has no live version; make one: recmesh train {model}"
            )
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    console = Console()
    console.print(f"[bold]{found.model}@{found.version}[/bold]  {found.stage}")
    console.print(f"{found.owner}, {found.contact}: {found.summary}", markup=False)
    card = {key: value for key, value in found.card.items() if key != "calibration"}
    console.print_json(data=card)
