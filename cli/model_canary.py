"""``recmesh model canary``: a version for some doctors, with an equal group to compare with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from recmesh.cli.actor import By, actor
from recmesh.cli.canary_experiment import canary_file, most_percent, running_canary, weighed
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.experiment_create import create_experiment
from recmesh.cli.model_shadow import VersionText
from recmesh.cli.named_version import NamedVersion, named_version
from recmesh.cli.ready_version import require_ready
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.served_policy import served_policy
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.trial_stage import move
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.beside import deploy_beside
from recmesh.models.registry import declaration
from recmesh.orchestrator.experiments.experiment import Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home
from recmesh.storage.model_stage import Stage


def _started(
    home: Home, named: NamedVersion, percent: float, most: float, days: float, by: str
) -> Experiment:
    store = ExperimentStore(home.experiments)
    artifacts = ArtifactStore(home.artifacts)
    live = artifacts.live_version(named.model) if artifacts.has_live(named.model) else ""
    policy = served_policy(home)
    made = canary_file(
        named,
        live if weighed(policy, named.model) else "",
        policy,
        declaration(named.model),
        store.read(),
        most=most,
        days=days,
        doctors=len(current_dataset(home).users),
    )
    created = create_experiment(home, made.file, made.text, by)
    return store.start(created.name, percent / most, by, datetime.now(UTC))


def _require_percent(percent: float, most: float) -> None:
    if not 0 < percent <= most:
        raise ConfigurationError(
            f"--percent {percent:g}: a canary has more than 0 and at most {most:g} percent of "
            f"doctors, as many more are its control; then it is promoted"
        )


def _require_trial(home: Home, named: NamedVersion) -> None:
    artifacts = ArtifactStore(home.artifacts)
    require_ready(artifacts, named.model, named.version)
    live = artifacts.live_version(named.model) if artifacts.has_live(named.model) else ""
    if named.version == live and weighed(served_policy(home), named.model):
        raise ConfigurationError(
            f"{named} is live; a canary is another version, for example of: "
            f"recmesh train {named.model} --not-live"
        )


def canary_command(
    version: VersionText,
    percent: Annotated[
        float, typer.Option(help="Percent of doctors who get it, for as long as it runs.")
    ] = 5.0,
    most: Annotated[
        float, typer.Option(min=0.01, max=50, help="Percent that it may be raised to.")
    ] = 25.0,
    days: Annotated[float, typer.Option(min=0.01, help="Days that it may run.")] = 14.0,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Makes some doctors' pages with a version; as many others are compared with them.

    The version runs beside the live one, and a doctor stays in or out. Its scores count through
    calibrators fitted for it, so that another scale cannot shift slates. Orchestrators stop it by
    themselves when it fails or is slow; recmesh model watch stops it when clicks say so. Said
    again with a larger --percent, more doctors get it.

    A model that no policy asks yet joins with the share of relevance that its model.toml says.

    Examples:

        recmesh model canary cf@8199be6f --percent 5

        recmesh model canary cf@8199be6f --percent 20
    """
    home = Home.from_environment()
    with clear_errors("recmesh model canary"), StageProgress(as_json) as shown:
        named = named_version(version, ArtifactStore(home.artifacts))
        store = ExperimentStore(home.experiments)
        running = running_canary(store.read(), named.model)
        _require_percent(percent, most_percent(running) if running else most)
        if running is not None and running.arms[-1].models[named.model] != named.version:
            raise ConfigurationError(
                f"{running.name} runs with another version; end it first: "
                f"recmesh model abort {named.model}"
            )
        _require_trial(home, named)
        mesh = required_mesh(home)
        shown.stage(f"starting {named}")
        deploy_beside(home, mesh, named.model, named.version)
        shown.done("canary", f"{named} runs beside the live version")
        if running is None:
            canary = _started(home, named, percent, most, days, actor(by))
        else:
            canary = store.ramp(running.name, percent / most_percent(running), actor(by))
        said = f"{canary.name}, {percent:g}% of doctors"
        move(home, named, Stage.CANARY, by=actor(by), did="canary", detail=said)
    if as_json:
        typer.echo(json.dumps({"experiment": canary.name, "percent": percent}))
        return
    typer.echo(
        f"{canary.name}: {percent:g}% of doctors get {named}, as many others are compared; ends "
        f"{canary.ends_at:%Y-%m-%d}"
    )
    typer.echo(f"next: recmesh model watch {named.model}, then recmesh model promote {named.model}")
