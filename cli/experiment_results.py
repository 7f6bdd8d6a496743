"""``recmesh experiment status`` and ``analyze``: what an experiment says so far."""

from __future__ import annotations

import math
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import opened_database, written_overlay
from recmesh.cli.written_report import writable, write_report
from recmesh.offline.experiments.analysis import GoalResult, GuardrailResult
from recmesh.offline.experiments.experiment_page import html_page
from recmesh.offline.experiments.experiment_report import ExperimentReport, experiment_report
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.recorded_arms import RecordedArms

Name = Annotated[str, typer.Argument(help="Of the experiment; recmesh experiment list shows them.")]
AsJson = Annotated[bool, typer.Option("--json", help="The report as JSON.")]


def report_of(home: Home, name: str) -> ExperimentReport:
    """What an experiment says now.

    Raises:
        NotFoundError: there is no such experiment.
        DataError: its plan or its arms were changed after it was created.
    """
    stored = ExperimentStore(home.experiments).read()
    stored.record(name)
    dataset = Dataset.open_or_empty(home.dataset)
    overlay = written_overlay(home)
    database = opened_database(home)
    with nullcontext() if database is None else closing(database):
        return experiment_report(
            stored,
            name,
            RecordedArms(database) if database is not None else None,
            dataset.under(overlay) if overlay else dataset,
            datetime.now(UTC),
        )


def _signed(value: float) -> str:
    return f"{value:+.4g}"


def _interval(interval: tuple[float, float]) -> str:
    if not all(math.isfinite(end) for end in interval):
        return "not yet"
    return f"{_signed(interval[0])} to {_signed(interval[1])}"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _print_head(console: Console, report: ExperimentReport) -> None:
    of_days = f"day {report.days_run:.1f} of {report.planned_days:g}"
    console.print(
        f"[bold]{report.name}[/bold]: {report.state}, {of_days}, ramp {report.ramp:.0%}, "
        f"{report.units:,} of {report.planned_units:,} planned {report.unit}s",
        highlight=False,
    )
    console.print(escape(report.hypothesis), style="dim", highlight=False)
    interleaved = report.kind == "interleave"
    table = Table("arm", "share", "slots shown" if interleaved else f"{report.unit}s", "made by")
    for arm in report.arms:
        policies = ", ".join(arm.policies)
        table.add_row(arm.name, f"{arm.share:.1%}", f"{arm.units:,}", policies)
    console.print(table)
    ratio = report.sample_ratio
    what = "who picked the first slot" if interleaved else "sample ratio"
    counts = ", ".join(f"{arm} {count:,}" for arm, count in ratio.units.items())
    verdict = "[red]MISMATCH[/red]" if ratio.mismatch else "as it should be"
    console.print(f"{what}: {counts}; p {_p(ratio.p)}, {verdict}", highlight=False)


def _print_goals(console: Console, report: ExperimentReport, goals: list[GoalResult]) -> None:
    columns = ["goal", "arm", "control", "treatment", "difference", "always valid"]
    columns += ["p, always valid"]
    table = Table(*columns, *(("one look", "p, one look") if report.final else ()))
    for goal in goals:
        effect = goal.effect
        row = [
            goal.metric,
            goal.arm,
            f"{effect.control:.4g}",
            f"{effect.treatment:.4g}",
            _signed(effect.difference),
            _interval(goal.always_valid_interval),
            _p(goal.always_valid_p_holm),
        ]
        row += [_interval(goal.interval), _p(goal.p_holm)] if report.final else []
        table.add_row(*row)
    console.print(table)


def _print_guardrails(
    console: Console, report: ExperimentReport, guardrails: list[GuardrailResult]
) -> None:
    if not guardrails:
        return
    table = Table("guardrail", "arm", "control", "treatment", "always valid")
    if report.final:
        table.add_column("one look")
    for one in guardrails:
        verdict = one.guardrail
        row = [one.metric, one.arm, f"{one.effect.control:.4g}", f"{one.effect.treatment:.4g}"]
        table.add_row(*row, verdict.always_valid, *([verdict.verdict] if report.final else []))
    console.print(table)


def _print_slices(console: Console, report: ExperimentReport) -> None:
    if report.analysis is None or not report.analysis.slices:
        return
    table = Table("slice", "value", "goal", "arm", "difference", "p, same everywhere")
    for found in report.analysis.slices:
        for value, effect in found.effects.items():
            p = _p(found.p_benjamini_hochberg)
            table.add_row(
                found.column, value, found.metric, found.arm, _signed(effect.difference), p
            )
        if found.left_out:
            small = f"{len(found.left_out)} others"
            table.add_row(found.column, small, found.metric, found.arm, "too few units", "")
        table.add_section()
    console.print(table)


def _print_preference(console: Console, report: ExperimentReport) -> None:
    found = report.preferred
    if found is None:
        return
    first, second = (arm.name for arm in report.arms)
    counted = found.preference
    wanted = ", ".join(f"{arm} {count:,}" for arm, count in found.wanted.items())
    console.print(f"items wanted: {wanted}, on {found.pages:,} pages", highlight=False)
    rows = [
        ("always valid", _interval(found.always_valid_interval), _p(found.always_valid_p)),
    ]
    if report.final:
        rows.append(("one look", _interval(found.interval), _p(found.p)))
    table = Table("", f"{second} less {first}, a page", "p")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{report.unit}s for {second} {counted.wins:,}, for {first} {counted.losses:,}, "
        f"undecided {counted.ties:,}",
        highlight=False,
    )
    preferred = found.preferred(second, first, report.final, report.alpha)
    console.print(f"[bold]{preferred or 'neither'}[/bold] is shown to be preferred")


def _print_remarks(console: Console, report: ExperimentReport) -> None:
    for remark in report.remarks:
        console.print(f"• {escape(remark)}", highlight=False)
    if report.believed and not report.final:
        console.print(
            "• it did not end as planned: only what is always valid is to be believed"
            if report.state == "stopped"
            else "• until its planned end only what is always valid is to be believed",
            highlight=False,
        )


def status_command(name: Name, as_json: AsJson = False) -> None:
    """Where a running experiment stands: units, sample ratio, always-valid intervals of its goals.

    May be looked at every day: what it shows stays right however often. The mesh may run or not.

    Examples:

        recmesh experiment status feed-diversity
    """
    with clear_errors("recmesh experiment status"):
        report = report_of(Home.from_environment(), name)
    if as_json:
        typer.echo(report.as_json())
        return
    console = Console()
    _print_head(console, report)
    if report.analysis is not None:
        _print_goals(console, report, report.analysis.goals)
        _print_guardrails(console, report, report.analysis.guardrails)
    _print_preference(console, report)
    _print_remarks(console, report)


def analyze_command(
    name: Name,
    page: Annotated[
        Path | None, typer.Option("--report", help="Page with figures, .html; needs no other file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The whole analysis by the plan that was fixed when the experiment was created.

    Ends with status 1 where the arms' units contradict their shares: then something lost events,
    and no number is to be believed. The mesh may run or not.

    Examples:

        recmesh experiment analyze feed-diversity

        recmesh experiment analyze feed-diversity --report feed-diversity.html
    """
    with clear_errors("recmesh experiment analyze"):
        writable("--report", page, (".html",))
        report = report_of(Home.from_environment(), name)
        if page is not None:
            write_report(page, html_page(report))
    if as_json:
        typer.echo(report.as_json())
    else:
        console = Console()
        _print_head(console, report)
        console.print(f"plan {report.plan_hash}, α {report.alpha:g}", highlight=False)
        if report.analysis is not None:
            _print_goals(console, report, report.analysis.goals)
            _print_guardrails(console, report, report.analysis.guardrails)
            _print_slices(console, report)
        _print_preference(console, report)
        _print_remarks(console, report)
    if not report.believed:
        raise typer.Exit(1)
