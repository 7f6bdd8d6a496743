"""``recmesh diagnose``: what fails in what was served, and what would move it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.served_log import EventsFrom, read_log
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.written_report import writable, write_report
from recmesh.offline.diagnosis.check import Check, shown
from recmesh.offline.diagnosis.diagnose import diagnose
from recmesh.offline.diagnosis.diagnosis_report import FINE, DiagnosisReport
from recmesh.offline.diagnosis.finding import Severity
from recmesh.offline.diagnosis.registry import CHECKS
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

COLOURS = {FINE: "green", "warning": "yellow", "critical": "red"}
ALARM = 3
"""Exit status of findings that --fail-on names; 1 and 2 are errors."""


class FailOn(StrEnum):
    """Which findings end the command with :data:`ALARM`."""

    NEVER = "never"
    WARNING = "warning"
    CRITICAL = "critical"


def diagnose_command(
    days: Annotated[float, typer.Option(min=0.1, help="Last days of the log to look at.")] = 14.0,
    check: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this check; may be repeated. {', '.join(CHECKS)}."),
    ] = None,
    events: Annotated[
        EventsFrom,
        typer.Option(help="Which events; auto: recorded ones, ingested where there are none."),
    ] = EventsFrom.AUTO,
    page: Annotated[
        Path | None,
        typer.Option("--report", help="Page with figures, .html; needs no other file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Alarms and numbers as JSON.")] = False,
    fail_on: Annotated[
        FailOn, typer.Option(help=f"Findings of this severity or worse end with status {ALARM}.")
    ] = FailOn.NEVER,
) -> None:
    """Finds failure modes of the recommender in what was served, each with a lever.

    Reads recorded events, decision records where there are any, and the data set; no mesh need
    run. A finding is beyond its bound by more than chance explains; see docs/diagnosis.md.

    Examples:

        recmesh diagnose

        recmesh diagnose --days 28 --report diagnosis.html

        recmesh diagnose --check popularity-bias --check starving-specialty

        recmesh diagnose --json --fail-on critical
    """
    home = Home.from_environment()
    with clear_errors("recmesh diagnose"):
        writable("--report", page, (".html",))
        chosen = _chosen(check or [])
        with StageProgress(as_json) as progress:
            read = read_log(home, days, events, progress.stage("read"))
            progress.stage("judge")
            report = DiagnosisReport.of(read.log, diagnose(read.log, chosen), read.events)
        if page is not None:
            # Plotly takes a second to import.
            from recmesh.offline.diagnosis.diagnosis_page import html_page

            write_report(page, html_page(report))
    if as_json:
        typer.echo(report.as_json())
    else:
        _print(report, chosen, Console())
    worst = report.worst()
    if worst is Severity.CRITICAL and fail_on is not FailOn.NEVER:
        raise typer.Exit(ALARM)
    if worst is Severity.WARNING and fail_on is FailOn.WARNING:
        raise typer.Exit(ALARM)


def _chosen(names: list[str]) -> dict[str, Check]:
    for name in names:
        if name not in CHECKS:
            raise ConfigurationError(f"--check {name}: there are {', '.join(CHECKS)}")
    return {name: found for name, found in CHECKS.items() if not names or name in names}


def _print(report: DiagnosisReport, checks: dict[str, Check], console: Console) -> None:
    console.print(
        f"{report.slots:,} slots that {report.doctors:,} doctors saw from {report.starts[:10]} to "
        f"{report.ends[:10]}, by {report.events} events; {report.decisions:,} decision records.",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("check", "worst of", "number", "allowed", "trend", "verdict"):
        right = name in ("number", "allowed")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "worst of")
    for check in checks.values():
        _add_row(table, report, check)
    console.print(table)
    for why, names in _too_few(report).items():
        console.print(f"Too few to judge {', '.join(names)}: {why}.", style="dim", highlight=False)
    for finding in report.diagnosis.findings:
        colour = "red" if finding.severity is Severity.CRITICAL else "yellow"
        title = checks[finding.check].title
        console.print(
            f"[{colour} bold]{finding.severity.value}[/] [bold]{escape(title)}.[/] "
            f"{escape(finding.sentence)}",
            highlight=False,
        )
        console.print(f"  {escape(finding.lever)}", style="dim", highlight=False)
    if not report.diagnosis.findings:
        console.print("No finding: nothing that could be judged is beyond its bound.")


def _add_row(table: Table, report: DiagnosisReport, check: Check) -> None:
    measured = report.diagnosis.measured[check.id]
    if not measured:
        missing = report.diagnosis.too_few[check.id]
        table.add_row(check.id, *[""] * 4, f"[dim]{'too few' if missing else 'none there'}[/]")
        return
    worst = min(measured, key=lambda one: one.urgency)
    verdict = report.verdict(check.id, worst.subject)
    said = f"[{COLOURS[verdict]}]{verdict}[/]"
    found = sum(report.verdict(check.id, one.subject) != FINE for one in measured)
    said += f", {found} of {len(measured)}" if found and len(measured) > 1 else ""
    table.add_row(
        check.id,
        escape(worst.subject),
        shown(worst.value, check.unit),
        f"{'≤' if worst.worse == 'above' else '≥'} {shown(worst.allowed, check.unit)}",
        worst.trend.said if worst.trend else "",
        said,
    )


def _too_few(report: DiagnosisReport) -> dict[str, list[str]]:
    """What could not be judged, by the reason."""
    by_reason: dict[str, list[str]] = {}
    for check, some in report.diagnosis.too_few.items():
        for one in some:
            by_reason.setdefault(one.why, []).append(
                f"{check} ({one.subject})" if one.subject else check
            )
    return by_reason
