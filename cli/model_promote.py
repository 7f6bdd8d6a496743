"""``recmesh model promote``: a version that was tried answers all pages.

In this order, so that an end after any step leaves a mesh that serves, and the same command goes
on:

1. the version is deployed in place of the one before, as :mod:`recmesh.deployments.deploy_model`
   does: new replicas answer before old ones leave, then it is live; one that does not come up
   changes nothing;
2. the policy that asks a model which none asked before is live;
3. the canary is stopped: its doctors get what everybody gets;
4. what runs beside the live version ends.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recmesh.cli.actor import By
from recmesh.cli.canary_experiment import running_canary
from recmesh.cli.model_abort import abort
from recmesh.cli.named_version import named_version
from recmesh.cli.owners_command import owners_command
from recmesh.cli.ready_version import require_ready
from recmesh.cli.required_mesh import required_mesh
from recmesh.deployments.deploy_model import deploy_model
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.policy_store import PolicyStore


def promote_command(
    version: Annotated[
        str, typer.Argument(help="MODEL@VERSION; MODEL: the version of its canary.")
    ],
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Makes a version answer all pages, and ends its trial. No request fails meanwhile.

    If its replicas do not come up, the version before serves on and stays live. A promotion that
    was killed is finished by saying it again.

    Examples:

        recmesh model promote cf

        recmesh model promote cf@8199be6f
    """
    with owners_command("recmesh model promote", by) as mesh:
        home = mesh.home
        model, _, wanted = version.partition("@")
        canary = running_canary(ExperimentStore(home.experiments).read(), model)
        if canary is not None and not wanted:
            version = f"{model}@{canary.arms[-1].models[model]}"
        named = named_version(version, mesh.store)
        require_ready(mesh.store, named.model, named.version)
        required_mesh(home)
        done = deploy_model(mesh, named.model, named.version)
        arm = canary.arms[-1] if canary else None
        if arm is not None and arm.policy and arm.models[named.model] == named.version:
            PolicyStore(home.policies).make_live(arm.policy)
        stopped, ended = abort(home, named.model, f"{named} was promoted", mesh.by)
    if as_json:
        told = {"model": named.model, "version": named.version, "before": done.before}
        typer.echo(json.dumps(told | {"experiment": stopped, "ended": ended}))
        return
    typer.echo(f"{named} serves; before it: {done.before or 'none'}")
    typer.echo(f"back: recmesh model rollback {named.model}")
