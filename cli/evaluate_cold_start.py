"""``recmesh evaluate cold-start``: what is worth what on new items and new doctors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Progress
from recmesh.models.registry import known_models
from recmesh.offline.evaluation.cold_start import (
    ColdStartReport,
    Exposure,
    Group,
    Settings,
    cold_start,
)
from recmesh.offline.evaluation.report import shown
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home


def cold_start_command(
    home: Annotated[
        Path | None, typer.Option(help="Folder of the ingested data. Default: $RECMESH_HOME.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models to judge and to serve with; all when none.")
    ] = None,
    policy: Annotated[Path, typer.Option(help="Policy that the feed is served by.")] = (
        DEFAULT_POLICY
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    bootstrap_samples: Annotated[
        int, typer.Option(min=10, help="Resamples of the doctors.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Judges models and served pages on new items and new doctors of the last fifth of events.

    New is what no event names before. Models are trained on what came before; the blend is the
    feed's whole pipeline. Nothing is published; see docs/evaluation.md.

    Examples:

        recmesh evaluate cold-start

        recmesh evaluate cold-start --policy tuned.toml --json
    """
    place = Home(home.resolve()) if home else Home.from_environment()
    with clear_errors("recmesh evaluate cold-start"):
        settings = Settings(
            models=tuple(models or known_models()),
            policy=policy,
            seed=seed,
            bootstrap_samples=bootstrap_samples,
            text_vectors=place.text_vectors,
        )
        dataset = current_dataset(place)
        with progress_bars(as_json) as bars:

            def steps(name: str) -> Progress:
                task = bars.add_task(name, total=None)
                return lambda done, total, what: bars.update(
                    task, completed=done, total=total, description=f"{name}: {what}"
                )

            report = cold_start(dataset, settings, steps)
    if as_json:
        typer.echo(report.as_json())
    else:
        _print(report, Console())


def _print(report: ColdStartReport, console: Console) -> None:
    console.print(
        f"Events before {report.start} are known; {report.new_items:,} items have none. Policy "
        f"{report.policy}. Brackets: 95% bootstrap intervals over doctors, "
        f"{report.bootstrap_samples:,} samples, seed {report.seed}.",
        highlight=False,
    )
    for group in report.groups:
        _print_group(group, console)
    console.print(_exposed(report.exposure), highlight=False)
    for name, why in report.absent.items():
        console.print(f"{name} is absent: {why}", highlight=False)
    if report.degraded_pages:
        console.print(f"[yellow]{report.degraded_pages:,} pages were degraded[/yellow]")


def _print_group(group: Group, console: Console) -> None:
    if not group.doctors:
        console.print(f"{group.name}: none in this period")
        return
    title = (
        f"{group.name}: {group.doctors:,} doctors, {group.candidates:.0f} items each, "
        f"{group.wanted:.1f} wanted"
    )
    gain = f"over {group.reference}"
    table = Table("", "nDCG@10", gain, "recall@100", gain, title=title)
    for system in group.systems:
        style = "bold" if system.kind == "blend" else "dim" if system.kind == "baseline" else ""
        own = system.name == group.reference
        table.add_row(
            system.name,
            shown(system.ndcg),
            "" if own else shown(system.ndcg_gain, True),
            shown(system.recall),
            "" if own else shown(system.recall_gain, True),
            style=style,
        )
    console.print(table)
    if group.silent:
        console.print(f"no opinion: {', '.join(group.silent)}")


def _exposed(exposure: Exposure) -> str:
    """How much of the first pages is new, as a sentence."""
    return (
        f"Share of new items, {exposure.doctors:,} doctors: {shown(exposure.of_page)} of the "
        f"blend's first ten, {shown(exposure.of_wanted)} of what was wanted, "
        f"{shown(exposure.of_candidates)} of what could be shown; page minus wanted "
        f"{shown(exposure.difference, True)}."
    )
