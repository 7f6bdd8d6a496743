"""``recmesh evaluate``: what models, baselines and the blend are worth on later events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table

from recmesh.cli.evaluate_cold_start import cold_start_command
from recmesh.cli.evaluate_embeddings import embeddings_app
from recmesh.cli.evaluate_search import evaluate_search_command
from recmesh.cli.written_data import current_dataset
from recmesh.cli.written_report import writable, write_report
from recmesh.models.model import Progress
from recmesh.models.registry import known_models
from recmesh.offline.evaluation.evaluate import Settings, evaluate
from recmesh.offline.evaluation.report import SEGMENTS, Report, System, heading
from recmesh.offline.evaluation.report_page import html_page
from recmesh.offline.evaluation.tuned_policy import tuned_policy
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

evaluate_app = typer.Typer(add_completion=False, invoke_without_command=True)
evaluate_app.command("search")(evaluate_search_command)
evaluate_app.command("cold-start")(cold_start_command)
evaluate_app.add_typer(embeddings_app, name="embeddings")


def _style(system: System) -> str:
    return {"blend": "bold", "baseline": "dim"}.get(system.kind, "")


def _print(report: Report, console: Console) -> None:
    console.print(report.summary())
    for segment, meaning in SEGMENTS.items():
        if not report.users[segment]:
            continue
        table = Table("", *report.headings(), title=f"{report.users[segment]:,} {meaning}")
        for system in report.systems:
            # A terminal is narrow: the other intervals are in the report files.
            ndcg, *others = report.cells(system, segment)
            cells = [ndcg, *(cell.partition(" ")[0] for cell in others)]
            table.add_row(system.name, *cells, style=_style(system))
        console.print(table)
        beyond = Table("", *(heading(d) for d in report.others()), title="Beyond accuracy")
        for system in report.systems:
            beyond.add_row(system.name, *report.values(system, segment), style=_style(system))
        console.print(beyond)
    if report.slices:
        names = [system.name for system in report.systems]
        slices = Table("", "users", *names, title=f"nDCG@{report.k} by slice of all users")
        for before, one in zip([None, *report.slices], report.slices, strict=False):
            if before is not None and before.dimension != one.dimension:
                slices.add_section()
            slices.add_row(one.name, f"{one.users:,}", *report.slice_cells(one))
        console.print(slices)
    for comparison in report.comparisons:
        console.print(f"[bold]{report.compared(comparison)}[/bold]", highlight=False)
    console.print(report.blend_summary())
    for remark in report.shortcomings():
        console.print(f"• {remark}", highlight=False)


@evaluate_app.callback()
def evaluate_command(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Folder of the ingested data. Default: $RECMESH_HOME.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models to judge and blend; all when none.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="Length of the judged page.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    bootstrap_samples: Annotated[int, typer.Option(min=10, help="Resamples of the users.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Report file, .json or .md.")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", help="Page with figures, .html; needs no other file."),
    ] = None,
    write_policy: Annotated[
        Path | None, typer.Option(help="Policy file with the tuned weights for the feed.")
    ] = None,
) -> None:
    """Judges models, baselines and the tuned blend on the last fifth of the events.

    Weights are tuned on the tenth before it. Nothing is published; see docs/evaluation.md.

    Examples:

        recmesh evaluate

        recmesh evaluate --report evaluation.html

        recmesh evaluate --models cf --models network --out report.md

        recmesh evaluate --json --write-policy tuned.toml

        recmesh evaluate search --data nfcorpus
    """
    if context.invoked_subcommand is not None:
        return
    place = Home(home.resolve()) if home else Home.from_environment()
    try:
        settings = Settings(
            k=k,
            models=tuple(models or known_models()),
            seed=seed,
            bootstrap_samples=bootstrap_samples,
            text_vectors=place.text_vectors,
        )
        writable("--out", out, (".json", ".md"))
        writable("--report", page, (".html",))
        dataset = current_dataset(place)
        with Bars(console=Console(stderr=True), transient=True) as bars:

            def steps(name: str) -> Progress:
                task = bars.add_task(name, total=None)

                def show(done: float, total: float, message: str) -> None:
                    label = f"{name}: {message}"
                    bars.update(task, completed=done, total=total, description=label)

                return show

            outcome = evaluate(dataset, settings, steps)
        if out is not None:
            report = outcome.report
            as_text = report.as_json() + "\n" if out.suffix == ".json" else report.as_markdown()
            write_report(out, as_text)
        if page is not None:
            write_report(page, html_page(outcome.report))
        if write_policy is not None:
            write_policy.write_text(tuned_policy(outcome.tuned.blend))
    except RecMeshError as error:
        typer.echo(f"recmesh evaluate: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(outcome.report.as_json())
    else:
        _print(outcome.report, Console())
