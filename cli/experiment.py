"""``recmesh experiment``: experiments that serve, from their file to what they say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from recmesh.cli.actor import By, actor
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.experiment_create import create_command
from recmesh.cli.experiment_results import analyze_command, status_command
from recmesh.orchestrator.experiments.experiment import BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore, StoredExperiments
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

experiment_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Experiments that serve: who gets which pages, and what came of it.",
)
experiment_app.command("create")(create_command)
Name = Annotated[str, typer.Argument(help="Of the experiment; recmesh experiment list shows them.")]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]


def _store() -> ExperimentStore:
    return ExperimentStore(Home.from_environment().experiments)


def _where(experiment: Experiment) -> str:
    if experiment.unit == "campaign":
        return "campaigns"
    return ", ".join(experiment.surfaces) or "everywhere"


def _told(stored: StoredExperiments, experiment: Experiment) -> dict[str, object]:
    state = experiment.state(datetime.now(UTC))
    record = stored.records[experiment.name]
    return {
        "name": experiment.name,
        "state": state,
        "plan_hash": record.plan_hash,
        "days": record.days,
        "experiment": experiment.model_dump(mode="json"),
    }


@experiment_app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Lists all experiments, oldest first, and who is held out of them.

    Examples:

        recmesh experiment list
    """
    with clear_errors("recmesh experiment list"):
        stored = _store().read()
    if as_json:
        told = [_told(stored, experiment) for experiment in stored.book.experiments]
        typer.echo(json.dumps({"holdout_share": stored.book.holdout_share, "experiments": told}))
        return
    console = Console()
    if not stored.book.experiments:
        console.print("no experiment yet; docs/experiments.md shows a file to begin with")
    else:
        table = Table("name", "state", "where", "arms", "of the layer", "ramp", "from", "to")
        now = datetime.now(UTC)
        for one in stored.book.experiments:
            begun = one.ramp > 0
            arms = ", ".join(arm.name for arm in one.arms)
            table.add_row(
                one.name,
                one.state(now),
                _where(one),
                f"{arms} (interleaved)" if one.kind == "interleave" else arms,
                f"{one.buckets / BUCKETS:.2%} of {one.layer}",
                f"{one.ramp:.0%}",
                f"{one.starts_at:%Y-%m-%d}" if begun else "",
                f"{one.ends_at:%Y-%m-%d}" if begun else "",
            )
        console.print(table)
    if stored.book.holdout_share:
        console.print(f"{stored.book.holdout_share:.2%} of all units are held out of all of them")


@experiment_app.command("show")
def show_command(name: Name, as_json: AsJson = False) -> None:
    """Shows an experiment as it was created, where it stands, and who did what.

    Examples:

        recmesh experiment show feed-diversity
    """
    with clear_errors("recmesh experiment show"):
        stored = _store().read()
        experiment, record = stored.experiment(name), stored.record(name)
    history = [entry for entry in stored.history if entry.name == name]
    if as_json:
        told = _told(stored, experiment) | {"file": record.file, "plan": record.plan}
        entries = [entry.model_dump(mode="json") for entry in history]
        typer.echo(json.dumps(told | {"history": entries}))
        return
    console = Console()
    console.print(Syntax(record.file, "toml", background_color="default"))
    last = experiment.first_bucket + experiment.buckets - 1
    console.print(
        f"[bold]{experiment.state(datetime.now(UTC))}[/bold], ramp {experiment.ramp:.0%}, buckets "
        f"{experiment.first_bucket} to {last} of layer {experiment.layer}, plan {record.plan_hash}",
        highlight=False,
    )
    for arm in experiment.arms:
        made_by = [f"policy {arm.policy}"] if arm.policy else []
        made_by += [f"embedding {arm.embedding}"] if arm.embedding else []
        made_by += [f"{model}@{version}" for model, version in arm.models.items()]
        made_by += [f"without {', '.join(arm.without_campaigns)}"] if arm.without_campaigns else []
        made_by += [] if arm.takes_part else ["does not take part"]
        what = ", ".join(made_by) or "as what is live"
        console.print(f"  {arm.name:<16} {arm.share:6.1%}  {escape(what)}", highlight=False)
    for entry in history:
        at = f"{entry.at:%Y-%m-%d %H:%M:%S}"
        line = f"  {at}  {entry.by}  {entry.did}  {entry.what}"
        console.print(escape(line.rstrip()), style="dim", highlight=False)


@experiment_app.command("start")
def start_command(
    name: Name,
    ramp: Annotated[
        float, typer.Option(help="Share of its units that take part at first, in (0, 1].")
    ] = 1.0,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Lets the first units take part. Running meshes take it over within a second.

    Examples:

        recmesh experiment start feed-diversity --ramp 0.1
    """
    with clear_errors("recmesh experiment start"):
        _require_share(ramp)
        started = _store().start(name, ramp, actor(by), datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(started.model_dump(mode="json")))
        return
    typer.echo(
        f"experiment {name}: {ramp:.0%} of its units from {started.starts_at:%Y-%m-%d %H:%M} "
        f"to {started.ends_at:%Y-%m-%d %H:%M} UTC"
    )


def _require_share(ramp: float) -> None:
    if not 0 < ramp <= 1:
        raise ConfigurationError(f"ramp: {ramp:g}; the share of units that take part is in (0, 1]")


@experiment_app.command("ramp")
def ramp_command(
    name: Name,
    ramp: Annotated[float, typer.Argument(help="Share of its units, in (0, 1].")],
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Raises the share of its units that take part. Nobody changes arms; it never falls.

    Examples:

        recmesh experiment ramp feed-diversity 0.5
    """
    with clear_errors("recmesh experiment ramp"):
        _require_share(ramp)
        after = _store().ramp(name, ramp, actor(by))
    if as_json:
        typer.echo(json.dumps(after.model_dump(mode="json")))
    else:
        typer.echo(f"experiment {name}: {ramp:.0%} of its units take part")


@experiment_app.command("stop")
def stop_command(
    name: Name,
    reason: Annotated[str, typer.Option(help="For the history.")] = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """The kill switch: from now on every page is as without it. Final; may be repeated.

    Running meshes follow within a second. What was recorded can still be analysed.

    Examples:

        recmesh experiment stop feed-diversity --reason "complaints from cardiologists"
    """
    with clear_errors("recmesh experiment stop"):
        changed = _store().stop(name, reason, actor(by))
    if as_json:
        typer.echo(json.dumps({"name": name, "changed": changed}))
    else:
        typer.echo(f"experiment {name} {'is stopped' if changed else 'was stopped already'}")


@experiment_app.command("holdout")
def holdout_command(
    share: Annotated[float, typer.Argument(help="Share of all units, in [0, 1).")],
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Keeps a share of all units out of every experiment, to see what they come to together.

    Raising it takes units out of running experiments, lowering it lets them in.

    Examples:

        recmesh experiment holdout 0.05
    """
    with clear_errors("recmesh experiment holdout"):
        before = _store().hold_out(share, actor(by))
    if as_json:
        typer.echo(json.dumps({"before": before, "holdout_share": share}))
    else:
        typer.echo(f"{share:.2%} of all units are held out; it was {before:.2%}")


experiment_app.command("status")(status_command)
experiment_app.command("analyze")(analyze_command)
