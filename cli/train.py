"""``recmesh train``: models from ingested data, published as artifacts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from recmesh.models.model import TrainOptions
from recmesh.models.registry import MODELS, trainer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home


def train_command(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all when none.")] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Use only events before this UTC moment.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains models and makes them live.

    Examples:
      recmesh train
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
        trainers = {name: trainer(name) for name in models or MODELS}
        with Progress(console=console, transient=True) as bars:
            for name, train in trainers.items():
                task: TaskID = bars.add_task(name, total=None)

                def show(
                    done: float, total: float, message: str, task: TaskID = task, name: str = name
                ) -> None:
                    label = f"{name}: {message}"
                    bars.update(task, completed=done, total=total, description=label)

                trained = train(dataset, TrainOptions(until=moment, seed=seed, progress=show))
                version = store.publish(trained.card, trained.tensors, trained.strings)
                published[name] = {"version": version, "metrics": trained.card.metrics}
                bars.console.print(f"{name} {version} {trained.card.metrics or ''}")
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(published, indent=2))
