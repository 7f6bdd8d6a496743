"""``recmesh model scale``: a model's owner says how many replicas serve."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recmesh.cli.actor import By
from recmesh.cli.owners_command import owners_command
from recmesh.deployments.scale_model import scale_model


def scale_command(
    name: Annotated[str, typer.Argument(help="The model.")],
    least: Annotated[
        int | None, typer.Option("--min", min=1, max=1000, help="Replicas that always serve.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, max=1000, help="Replicas under load.")
    ] = None,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Changes how many replicas of a model serve, without a request failing.

    Between the two the number follows the load. It stays as said when the model is deployed again,
    and when the mesh is started anew. The mesh's configuration wins where it says otherwise, and
    the command says so.

    Examples:

        recmesh model scale cf --min 1 --max 3

        recmesh model scale cf --min 2
    """
    with owners_command("recmesh model scale", by) as mesh:
        made = scale_model(mesh, name, least, most)
    if as_json:
        typer.echo(json.dumps(asdict(made)))
        return
    bounds = f"{made.min_replicas} to {made.max_replicas} replicas"
    serve = f", {made.replicas} serve" if made.replicas else "; no mesh runs here"
    typer.echo(f"{name}: {bounds}{serve}")
