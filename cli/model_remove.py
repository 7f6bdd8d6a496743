"""``recmesh model remove``: a model's owner takes it out of the mesh."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recmesh.cli.actor import By
from recmesh.cli.owners_command import owners_command
from recmesh.cli.served_policy import served_policy
from recmesh.deployments.remove_model import remove_model
from recmesh.models.registry import check_known
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def surfaces_that_ask(home: Home, name: str) -> list[str]:
    """Surfaces whose policy asks a model, as a source or for scores."""
    policy = served_policy(home)
    return [
        surface
        for surface, rules in policy.surfaces.items()
        if name in (*rules.sources, *rules.model_weights, *rules.affinity_weights)
    ]


def remove_command(
    name: Annotated[str, typer.Argument(help="The model.")],
    yes: Annotated[bool, typer.Option("--yes", help="Even if pages are made with it.")] = False,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Takes a model out of the running mesh; pages are made without it and say so.

    Its calls end first. Artifacts and history stay: recmesh model deploy brings it back.

    Examples:

        recmesh model remove cf --yes
    """
    with owners_command("recmesh model remove", by) as mesh:
        check_known(name)
        asking = [] if yes else surfaces_that_ask(mesh.home, name)
        if asking:
            raise ConfigurationError(
                f"the policy asks {name} for {', '.join(asking)}, whose pages would lack it; say "
                f"--yes to remove it all the same"
            )
        made = remove_model(mesh, name)
    if as_json:
        typer.echo(json.dumps(asdict(made)))
        return
    typer.echo(f"{name} is removed" if made.changed else f"{name} was not deployed")
    if made.named:
        typer.echo(f"  {mesh.file} names it: recmesh up would run it again")
