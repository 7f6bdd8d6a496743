"""``recmesh retrain``: new versions of models, live only when they are not worse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.retraining_run import retrain
from recmesh.cli.retraining_switch import go_back, take_over
from recmesh.cli.stage_progress import StageProgress
from recmesh.models.registry import check_known, known_models
from recmesh.offline.retraining.plan import Order
from recmesh.offline.retraining.report import ModelReport, Outcome, Report
from recmesh.offline.retraining.run_record import only_retraining
from recmesh.storage.errors import ConfigurationError, RecMeshError
from recmesh.storage.home import Home

REFUSED = 3
"""Exit status; 1 is a failure, and 2 a command line that makes no sense."""
COLOURS = {Outcome.REFUSED: "red", Outcome.FAILED: "red", Outcome.PROMOTED: "green"}


def _line(model: ModelReport) -> str:
    colour = COLOURS.get(model.outcome, "dim")
    figures = ""
    comparison = model.comparison
    if comparison is not None:
        figures = f"  nDCG@10 {comparison.candidate.value:.4f}"
        if comparison.live is not None and comparison.difference is not None:
            d = comparison.difference
            figures += (
                f" against {comparison.live.value:.4f} ({comparison.protocol}): "
                f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] on {comparison.users} users"
            )
    versions = f" {model.live_before or 'nothing'} → {model.candidate}" if model.candidate else ""
    return escape(f"{model.name}{versions}{figures} ") + f"[{colour}]{model.outcome}[/{colour}]"


def _print(report: Report, file: Path) -> None:
    console = Console()
    for model in report.models:
        console.print(_line(model), highlight=False, soft_wrap=True)
        for check in model.refusals:
            console.print(f"  [red]✗[/red] {escape(str(check))}", highlight=False, soft_wrap=True)
        if model.message:
            console.print(f"  {escape(model.message)}", highlight=False, soft_wrap=True)
    if report.of(Outcome.UNCHANGED, Outcome.SKIPPED) == report.models:
        console.print("nothing to do")
    if report.mesh:
        console.print(escape(report.mesh), highlight=False, soft_wrap=True)
    for model in report.models:
        if model.back:
            console.print(f"  back: {model.back}", style="dim", highlight=False)
    console.print(f"report: {escape(str(file))}", style="dim", highlight=False, soft_wrap=True)


def _written(report: Report, home: Home, wanted: Path | None) -> Path:
    name = datetime.fromisoformat(report.started).strftime("%Y-%m-%dT%H%M%SZ.md")
    file = wanted or home.retraining / "reports" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.as_markdown())
    return file


def _status(report: Report) -> int:
    if report.of(Outcome.FAILED):
        return 1
    return REFUSED if report.of(Outcome.REFUSED) else 0


def _rolled_back(home: Home, models: list[str], as_json: bool) -> None:
    versions: dict[str, str] = {}
    with only_retraining(home.retraining):
        for name in models:
            versions[name] = go_back(home, name)
        taken = take_over(home, models)
    if as_json:
        typer.echo(json.dumps({"live": versions, "mesh": taken.message}))
    else:
        for name, version in versions.items():
            typer.echo(f"{name} {version} is live again")
        typer.echo(taken.message)
    if taken.failed or not taken.reached:
        raise typer.Exit(1)


def retrain_command(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all when none.")] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Use only events before this UTC moment.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Everything but the switch; what passed is kept.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Make the named models' versions before live again.")
    ] = False,
    on_ray: Annotated[
        bool, typer.Option("--on-ray", help="Train all models at once, as tasks on Ray.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file. Default: one a run, in the home folder.")
    ] = None,
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Trains models anew and makes live what is not worse than what serves.

    Holds the data still, trains beside the live versions, compares on events that neither has
    seen, refuses what is worse or not sane, builds the vectors, answers recent requests with
    both, then switches, in a running mesh too. For cron: on unchanged data it does nothing;
    killed, it goes on.

    Exit status: 0 promoted or nothing to do, 3 refused, 1 failed.

    Examples:

        recmesh retrain

        recmesh retrain cf network --report nightly.md

        recmesh retrain --dry-run --json

        recmesh retrain --on-ray

        recmesh retrain cf --rollback
    """
    home = Home.from_environment()
    moment = None
    if until is not None:
        moment = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    with clear_errors("recmesh retrain"):
        names = list(dict.fromkeys(models or known_models()))
        for name in names:
            check_known(name)  # now, not after an hour's work
        if rollback:
            if not models or dry_run:
                raise ConfigurationError(
                    "--rollback takes the models to go back with, and no --dry-run: "
                    "recmesh retrain cf --rollback"
                )
            _rolled_back(home, names, as_json)
            return
        order = Order(tuple(names), moment, seed, uri, dry_run, on_ray)
        with StageProgress(as_json) as shown:
            done = retrain(home, order, shown)
        try:
            file = _written(done, home, report)
        except OSError as error:
            raise RecMeshError(f"cannot write the report to {report}: {error.strerror}") from error
    if as_json:
        typer.echo(done.as_json())
    else:
        _print(done, file)
    if status := _status(done):
        raise typer.Exit(status)
