"""``recmesh load``: an open-loop load generator for a running mesh."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.load_generation.latency_record import OK
from recmesh.cli.load_generation.load_plot import LoadPicture
from recmesh.cli.load_generation.load_report import print_feedback, print_rows, print_surfaces
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.load_run import LoadRun
from recmesh.cli.load_generation.page_feedback import PageFeedback
from recmesh.cli.load_generation.rate_profile import Segment, parse_profile
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX, RequestMix, parse_mix
from recmesh.cli.load_generation.sweep import Sweep
from recmesh.cli.load_generation.target_address import checked_target
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.edge_channel import Edge, edge_of
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.orchestrator.overload.priority import Priority
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home

FILE_WIDTH = 120
"""Of tables in files, where nothing wraps them."""


@dataclass
class _Measured:
    """Filled while it runs: Ctrl-C leaves what there is."""

    rows: list[LoadRow] = field(default_factory=list)
    sweep: Sweep | None = None
    feedback: PageFeedback | None = None
    interrupted: bool = False


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    return [line for line in lines if line]


def _mix(home: Home, mix: str, users_file: Path | None, queries_file: Path | None) -> RequestMix:
    dataset: Dataset | None = None
    try:
        dataset = current_dataset(home)
    except NotFoundError as error:
        if users_file is None:
            raise NotFoundError(f"{error}; or name doctors with --users-file") from error
    return RequestMix.of(parse_mix(mix), dataset, _lines(users_file), _lines(queries_file))


async def _measure(
    edge: Edge,
    mix: RequestMix,
    segments: Sequence[Segment],
    warm_up_s: float,
    measured: _Measured,
    **options: Any,
) -> None:
    async with LoadRun.on(edge, mix, **options) as run:
        with progress_bars(False) as bars:
            task = bars.add_task("", total=None)

            def progress(done_s: float, total_s: float, said: str) -> None:
                bars.update(task, completed=done_s, total=total_s, description=said)

            first = segments[0].rate_per_s
            if warm_up_s:
                await run.profile([Segment(first, warm_up_s)], "warm-up", progress)
                run.feedback.forget()
            measured.feedback = run.feedback
            if measured.sweep is not None and not run.interrupted:
                await run.sweep(measured.sweep, segments[0].seconds, progress)
            elif not run.interrupted:
                said = f"{first:g} requests/s" if len(segments) == 1 else "profile"
                measured.rows = await run.profile(segments, said, progress)
            measured.interrupted = run.interrupted


def _print(measured: _Measured, rows: Sequence[LoadRow], deadline_s: float) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    sweep, feedback = measured.sweep, measured.feedback
    print_rows(console, rows, sweep.knee if sweep else None)
    shown = sweep.knee if sweep else rows[0] if len(rows) == 1 else None
    if shown is not None:
        print_surfaces(console, shown)
    if sweep is not None:
        console.print(f"{sweep.verdict()} (99% within {1e3 * deadline_s:g} ms)", highlight=False)
    if feedback is not None and feedback.batches.requests:
        print_feedback(console, feedback)


def _as_json(measured: _Measured, rows: Sequence[LoadRow], address: str, seed: int) -> str:
    said: dict[str, Any] = {"address": address, "seed": seed, "interrupted": measured.interrupted}
    if measured.sweep is not None:
        knee = measured.sweep.knee
        said["knee_per_s"] = knee.rate_per_s if knee else None
        said["verdict"] = measured.sweep.verdict()
    feedback = measured.feedback
    if feedback is not None and feedback.batches.requests:
        said["feedback"] = {
            "codes": dict(feedback.batches.codes),
            "events": dict(feedback.events),
            "latency_ms": {f"{p:g}": ms for p, ms in feedback.batches.percentiles_ms().items()},
        }
    return json.dumps({**said, "rows": [row.as_json() for row in rows]}, indent=1)


def load_command(
    address: Annotated[
        str, typer.Argument(help=f"HOST:PORT. Default: the running mesh, {DEFAULT_ADDRESS}.")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0.01, help="Requests a second; a sweep's first.")
    ] = 10.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each rate.")] = 20.0,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Raise the rate until it no longer holds.")
    ] = False,
    profile: Annotated[
        str,
        typer.Option(help="step:50,200,50x20s, or a day with its peak: daily:200x600s."),
    ] = "",
    deadline_s: Annotated[
        float, typer.Option(min=0.001, max=600.0, help="Of every request, in seconds.")
    ] = 0.5,
    mix: Annotated[str, typer.Option(help="Weights of surfaces.")] = DEFAULT_MIX,
    users_file: Annotated[
        Path | None,
        typer.Option(help="Doctors' ids, one a line, most active first. Default: the data set's."),
    ] = None,
    queries_file: Annotated[
        Path | None, typer.Option(help="Queries, one a line. Default: the data set's.")
    ] = None,
    feedback: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of pages whose impressions, clicks come back."),
    ] = 0.0,
    priority: Annotated[
        str, typer.Option(help="critical, normal or batch: who goes first under overload.")
    ] = "normal",
    channels: Annotated[int, typer.Option(min=1, max=256, help="Connections.")] = 4,
    warm_up_s: Annotated[
        float, typer.Option(min=0.0, help="Seconds at the first rate that do not count.")
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and of what is asked.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of a sweep or profile: .html or .png.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="What was measured as JSON.")] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Load another machine than this one.")
    ] = False,
) -> None:
    """Load a running mesh with requests that do not wait for each other.

    Requests start at random (Poisson) at the rate asked for, whether or not
    earlier ones were answered, and latency counts from when a request was to
    start. It is real traffic: pages are recorded, and sponsored slots are held
    for impressions that do not come.

    A rate holds when 99% of its requests get a page within the deadline. A sweep
    raises the rate by half until one does not hold twice, then looks between it
    and the last that did: the knee. The lag is what the generator itself was late
    with; rows where it was too much are marked.

    Ctrl-C prints what was measured until then.

    Examples:

        recmesh load --rate 100 --seconds 30

        recmesh load --sweep --plot knee.html

        recmesh load --profile step:20,100,20x30s --plot steps.png

        recmesh load --profile daily:100x600s --mix feed=80,search=20 --feedback 0.3

        recmesh load mesh.example:50051 --allow-remote --users-file doctors.txt --mix feed=1 --json
    """
    with clear_errors("recmesh load"):
        if sweep and profile:
            raise ConfigurationError("--sweep chooses its own rates; leave --profile out")
        if plot is not None and not (sweep or profile):
            raise ConfigurationError("--plot draws several rates: use it with --sweep or --profile")
        if plot is not None and plot.suffix not in (".html", ".png"):
            raise ConfigurationError(f"--plot {plot} ends in {plot.suffix!r}; use .html or .png")
        if priority not in Priority.names():
            raise ConfigurationError(
                f"--priority {priority!r} is none of {', '.join(Priority.names())}"
            )
        segments = parse_profile(profile) if profile else (Segment(rate, seconds),)
        home = Home.from_environment()
        edge = edge_of(home, address)
        address = checked_target(edge.address, allow_remote)
        requests = _mix(home, mix, users_file, queries_file)
        measured = _Measured(sweep=Sweep(rate) if sweep else None)
        try:
            asyncio.run(
                _measure(
                    edge,
                    requests,
                    segments,
                    warm_up_s,
                    measured,
                    channels=channels,
                    deadline_s=deadline_s,
                    feedback_share=feedback,
                    seed=seed,
                    priority=Priority.named(priority),
                )
            )
        except KeyboardInterrupt:
            measured.interrupted = True
        rows = sorted(measured.sweep.rows, key=_rate) if measured.sweep else measured.rows
        if not rows:
            typer.echo("nothing was measured", err=True)
            raise typer.Exit(130)
        if json:
            typer.echo(_as_json(measured, rows, address, seed))
        else:
            _print(measured, rows, deadline_s)
        if plot is not None:
            picture = (
                LoadPicture.of_sweep(measured.sweep, address)
                if measured.sweep
                else LoadPicture.of_profile(rows, f"{address}, {profile}")
            )
            picture.write(plot)
            typer.echo(f"drawn in {plot}", err=json)
    if measured.interrupted:
        raise typer.Exit(130)
    if not any(OK in row.total.codes for row in rows):
        raise typer.Exit(1)


def _rate(row: LoadRow) -> float:
    return row.rate_per_s
