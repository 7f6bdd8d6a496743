"""``recmesh model promote``: a version that was tried answers all pages.

In this order, so that an end after any step leaves a mesh that serves, and the same command goes
on:

1. ``live.json`` names the version (and the policy that asks a model which none asked before is
   live): from here on every start takes it;
2. the model's replicas are replaced, new ones answering before old ones leave; where they do not
   come up, the version before is made live and deployed again;
3. the canary is stopped: its doctors get what everybody gets;
4. what runs beside the live version ends.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recmesh.cli.canary_experiment import running_canary
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.experiment_create import By, actor
from recmesh.cli.model_abort import abort
from recmesh.cli.named_version import named_version
from recmesh.cli.ready_version import require_ready
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.retraining_switch import take_over
from recmesh.cli.stage_progress import StageProgress
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home


def promote_command(
    version: Annotated[
        str, typer.Argument(help="MODEL@VERSION; MODEL: the version of its canary.")
    ],
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Makes a version answer all pages, and ends its trial. No request fails meanwhile.

    If its replicas do not come up, the version before serves on and stays live. A killed
    promotion is finished by saying it again.

    Examples:

        recmesh model promote cf

        recmesh model promote cf@8199be6f
    """
    home = Home.from_environment()
    with clear_errors("recmesh model promote"), StageProgress(as_json) as shown:
        store = ArtifactStore(home.artifacts)
        canary = running_canary(ExperimentStore(home.experiments).read(), version.partition("@")[0])
        if canary is not None and "@" not in version:
            version = f"{version}@{canary.arms[-1].models[version]}"
        named = named_version(version, store)
        require_ready(store, named.model, named.version)
        required_mesh(home)
        before = store.live_version(named.model) if store.has_live(named.model) else ""
        store.make_live(named.model, named.version)
        shown.stage(f"replacing {named.model}")
        taken = take_over(home, [named.model])
        if taken.failed or not taken.reached:
            if before and before != named.version:
                store.go_back_to(named.model, before)
                take_over(home, [named.model])
            raise UnavailableError(f"{named} does not come up: {taken.message}; {before} is live")
        arm = canary.arms[-1] if canary else None
        if arm is not None and arm.policy and arm.models.get(named.model) == named.version:
            PolicyStore(home.policies).make_live(arm.policy)
        stopped, ended = abort(home, named.model, f"{named} was promoted", actor(by))
    if as_json:
        told = {"model": named.model, "version": named.version, "before": before}
        typer.echo(json.dumps(told | {"experiment": stopped, "ended": ended}))
        return
    typer.echo(f"{named} is live; before it: {before or 'none'}. {taken.message}")
    typer.echo(f"back: recmesh model rollback {named.model}")
