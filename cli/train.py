"""``recmesh train``: models from ingested data, published as artifacts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from recmesh.models.model import Progress as Show
from recmesh.models.model import TrainedModel
from recmesh.models.registry import MODELS, trainer
from recmesh.offline.evaluation.fitting import fit
from recmesh.offline.evaluation.holdout import Holdout, held_out
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, RecMeshError
from recmesh.storage.home import Home


def _trained(
    name: str,
    dataset: Dataset,
    until: datetime | None,
    seed: int,
    home: Home,
    validate: bool,
    show: Show,
    console: Console,
) -> TrainedModel:
    """The model fitted to everything before ``until``; its card tells what a holdout showed."""

    def stage(name_of_stage: str) -> Show:
        return lambda done, total, message: show(done, total, f"{name_of_stage}, {message}")

    holdout: Holdout | None = None
    if validate:
        try:
            holdout = held_out(
                name,
                dataset,
                until=until,
                seed=seed,
                text_vectors=home.text_vectors,
                progress=stage("holdout"),
            )
        except DataError as error:
            console.print(f"[yellow]{name} goes without figures and calibration:[/yellow] {error}")
    trained = fit(
        name,
        dataset,
        until=until,
        seed=seed,
        text_vectors=home.text_vectors,
        progress=stage("everything"),
    )
    return holdout.on(trained) if holdout else trained


def train_command(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all when none.")] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Use only events before this UTC moment.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    validate: Annotated[
        bool, typer.Option(help="Measure and calibrate each model on the last events first.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains models and makes them live.

    Each is first trained without the last tenth of the events, to measure it and to fit its
    calibration on them; then on everything. --no-validate skips the first.

    Examples:
      recmesh train
      recmesh train behavioral --no-validate
      recmesh train cf network --until 2026-01-01 --seed 7
    """
    home = Home.from_environment()
    console = Console(stderr=as_json)
    moment = None
    if until is not None:
        moment = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    published: dict[str, object] = {}
    try:
        dataset, store = Dataset.open(home.dataset), ArtifactStore(home.artifacts)
        chosen = models or list(MODELS)
        for name in chosen:
            trainer(name)  # says now that a name is unknown, not after an hour's work
        with Progress(console=console, transient=True) as bars:
            for name in chosen:
                task: TaskID = bars.add_task(name, total=None)

                def show(
                    done: float, total: float, message: str, task: TaskID = task, name: str = name
                ) -> None:
                    label = f"{name}: {message}"
                    bars.update(task, completed=done, total=total, description=label)

                trained = _trained(name, dataset, moment, seed, home, validate, show, console)
                version = store.publish(trained.card, trained.tensors, trained.strings)
                published[name] = {"version": version, "metrics": trained.card.metrics}
                bars.console.print(f"{name} {version} {trained.card.metrics or ''}")
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(published, indent=2))
