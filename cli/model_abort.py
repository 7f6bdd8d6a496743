"""``recmesh model abort``: ends a trial; every page is as before."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recmesh.cli.actor import By, actor
from recmesh.cli.canary_experiment import running_canary
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.trial_stage import give_up
from recmesh.deployments.applications import remove, states
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.models.registry import check_known
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.model_panel import BESIDE
from recmesh.storage.home import Home


def abort(home: Home, model: str, reason: str, by: str) -> tuple[str, list[str]]:
    """Stops the canary, then ends what runs beside the live version; may be repeated.

    Returns:
        The canary that was stopped, empty: none; and the versions that were ended.
    """
    store = ExperimentStore(home.experiments)
    canary = running_canary(store.read(), model)
    if canary is not None:
        store.stop(canary.name, reason, by)
    ended = []
    running = running_mesh(home)
    if running is not None:
        with joined_cluster(home, running.ray_address):
            for state in states():
                name, beside, version = state.name.partition(BESIDE)
                if beside and name == model and remove(model, version):
                    ended.append(version)
    give_up(home, model, by=by, did="trial ended", detail=reason)
    return canary.name if canary else "", ended


def abort_command(
    model: Annotated[str, typer.Argument(help="Whose shadow and canary.")],
    reason: Annotated[str, typer.Option(help="For the history.")] = "",
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Ends a model's shadow and canary: every page is made by what is live, within a second.

    Examples:

        recmesh model abort cf --reason "complaints from cardiologists"
    """
    home = Home.from_environment()
    with clear_errors("recmesh model abort"):
        check_known(model)
        canary, ended = abort(home, model, reason or "aborted", actor(by))
    if as_json:
        typer.echo(json.dumps({"experiment": canary, "ended": ended}))
    elif not canary and not ended:
        typer.echo(f"{model} has no trial")
    else:
        stopped = f"{canary} is stopped; " if canary else ""
        typer.echo(f"{stopped}ended: {', '.join(ended) or 'nothing ran beside the live version'}")
