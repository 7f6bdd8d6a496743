"""``recmesh model rollback``: a model's owner goes back to the version before."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recmesh.cli.actor import By
from recmesh.cli.model_deploy import said
from recmesh.cli.owners_command import owners_command
from recmesh.deployments.deploy_model import roll_back_model


def rollback_command(
    name: Annotated[str, typer.Argument(help="The model.")],
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Puts the version that was live before into service again, without a request failing.

    In the running mesh as well. Done twice by mistake, it does not go forward again: the second
    time fails.

    Examples:

        recmesh model rollback cf
    """
    with owners_command("recmesh model rollback", by) as mesh:
        made = roll_back_model(mesh, name)
    typer.echo(json.dumps(asdict(made)) if as_json else said(made))
