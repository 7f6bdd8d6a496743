"""``recmesh train``: models from ingested data, published as artifacts."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from recmesh.cli.written_data import learning_dataset
from recmesh.models.model import Progress as Show
from recmesh.models.registry import check_known, known_models
from recmesh.offline.evaluation.fitting import fit
from recmesh.offline.evaluation.holdout import Holdout, held_out
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, RecMeshError
from recmesh.storage.home import Home

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """One model to train."""

    name: str
    until: datetime | None = None
    seed: int = 0
    validate: bool = True
    live: bool = True
    """Whether it goes live when it is done."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Set, not chosen by training."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a job."""

    name: str
    version: str
    metrics: dict[str, Any]
    warning: str


def train_one(job: Job, home: Home, dataset: Dataset, show: Show) -> Published:
    """Fits the model to everything before ``until`` and publishes it.

    The card tells what a holdout showed; what was chosen there is not chosen again.
    """

    def stage(name: str) -> Show:
        return lambda done, total, message: show(done, total, f"{job.name}: {name}, {message}")

    holdout: Holdout | None = None
    warning = ""
    if job.validate:
        try:
            holdout = held_out(
                job.name,
                dataset,
                until=job.until,
                seed=job.seed,
                text_vectors=home.text_vectors,
                choices=job.parameters,
                progress=stage("holdout"),
            )
        except DataError as error:
            warning = f"{job.name} goes without figures and calibration: {error}"
    trained = fit(
        job.name,
        dataset,
        until=job.until,
        seed=job.seed,
        text_vectors=home.text_vectors,
        choices=(holdout.choices if holdout else {}) | job.parameters,
        progress=stage("everything"),
    )
    if holdout:
        trained = holdout.on(trained)
    store = ArtifactStore(home.artifacts)
    version = store.publish(trained.card, trained.tensors, trained.strings, live=job.live)
    return Published(job.name, version, trained.card.metrics, warning)


def _worker(job: Job, told: queue.Queue[tuple[str, float, float, str]]) -> Published:
    home = Home.from_environment()
    return train_one(
        job,
        home,
        learning_dataset(home),
        lambda done, total, message: told.put((job.name, done, total, message)),
    )


def _end_silently() -> None:
    """Ctrl-C reaches workers too: they end at once and without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _train_all(jobs: Sequence[Job], console: Console) -> list[Published]:
    """Trains several models at once, a process each, as many as there are cores."""
    workers = min(len(jobs), os.cpu_count() or 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        # Ctrl-C ends workers at once and without a word.
        ProcessPoolExecutor(
            workers, context, signal.signal, (signal.SIGINT, signal.SIG_DFL)
        ) as pool,
        Progress(console=console, transient=True) as bars,
    ):
        told: queue.Queue[tuple[str, float, float, str]] = manager.Queue()
        tasks = {job.name: bars.add_task(f"{job.name}: waiting", total=None) for job in jobs}
        futures: dict[Future[Published], str] = {
            pool.submit(_worker, job, told): job.name for job in jobs
        }
        published: list[Published] = []
        failures: list[BaseException] = []
        while futures:
            try:
                name, done, total, message = told.get(timeout=POLL_S)
                bars.update(tasks[name], completed=done, total=total, description=message)
            except queue.Empty:
                pass
            for future in [future for future in futures if future.done()]:
                bars.remove_task(tasks[futures.pop(future)])
                failure = future.exception()
                if failure is not None:
                    failures.append(failure)
                    continue
                published.append(future.result())
                _print(bars.console, published[-1])
    if failures:
        # The others were published; one that failed does not cost them.
        raise failures[0]
    return published


def _print(console: Console, done: Published) -> None:
    if done.warning:
        console.print(f"[yellow]{done.warning}[/yellow]")
    figures = ""
    if done.metrics:
        low, high = done.metrics["ndcg_at_10_interval"]
        figures = (
            f"nDCG@10 {done.metrics['ndcg_at_10']:.3f} [{low:.3f}, {high:.3f}] "
            f"(popularity {done.metrics['popularity_ndcg_at_10']:.3f}) on later events of "
            f"{done.metrics['users']} users"
        )
    console.print(f"{done.name} {done.version}  {figures}", highlight=False)


def train_command(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all when none.")] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Use only events before this UTC moment.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    validate: Annotated[
        bool, typer.Option(help="Measure and calibrate each model on the last events first.")
    ] = True,
    live: Annotated[
        bool, typer.Option("--live/--not-live", help="Whether each goes live when it is done.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains models, several at once, and makes each live when it is done.

    Each is first trained without the last tenth of the events, to measure it, to choose its
    settings and to fit its calibration; then on everything. --no-validate skips the first.
    --not-live leaves what serves as it is: recmesh model shadow tries the new version beside it.

    Examples:

        recmesh train

        recmesh train behavioral --no-validate

        recmesh train cf network --until 2026-01-01 --seed 7

        recmesh train cf --not-live
    """
    console = Console(stderr=as_json)
    moment = None
    if until is not None:
        moment = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    try:
        Dataset.open(Home.from_environment().dataset)
        chosen = list(dict.fromkeys(models or known_models()))
        for name in chosen:
            check_known(name)  # now, not after an hour's work
        jobs = [Job(name, moment, seed, validate, live) for name in chosen]
        published = _train_all(jobs, console)
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from error
    if as_json:
        by_name = {
            done.name: {"version": done.version, "metrics": done.metrics} for done in published
        }
        typer.echo(json.dumps(by_name, indent=2))
