"""A diagnosis as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recmesh.offline.diagnosis import diagnosis_charts as charts
from recmesh.offline.diagnosis.check import Check, shown
from recmesh.offline.diagnosis.diagnose import ALPHA
from recmesh.offline.diagnosis.diagnosis_report import DiagnosisReport
from recmesh.offline.diagnosis.finding import Finding, Measured, TooFew
from recmesh.offline.diagnosis.registry import CHECKS
from recmesh.offline.evaluation.report_page import drawn_figure, page_template

TEMPLATE = "diagnosis_page.html.j2"


@dataclass(frozen=True, slots=True)
class _Case:
    """A finding with its figures."""

    finding: Finding
    title: str
    series: Markup | None
    slices: Markup | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A measured number in the table."""

    subject: str
    value: str
    interval: str
    allowed: str
    trend: str
    doctors: int
    p: str
    verdict: str


def html_page(report: DiagnosisReport, checks: Mapping[str, Check] = CHECKS) -> str:
    """The page; equal reports give equal pages."""
    diagnosis = report.diagnosis
    cases = [
        _case(place, finding, checks[finding.check])
        for place, finding in enumerate(diagnosis.findings)
    ]
    used = [check for check in checks.values() if check.id in diagnosis.measured]
    tables: list[tuple[Check, list[_Row], list[TooFew]]] = [
        (
            check,
            [_row(report, check, one) for one in diagnosis.measured[check.id]],
            diagnosis.too_few[check.id],
        )
        for check in used
    ]
    overview = None
    if any(diagnosis.measured.values()):
        overview = drawn_figure("overview", charts.overview(diagnosis, used))
    return page_template(TEMPLATE, Path(__file__).parent).render(
        report=report,
        cases=cases,
        overview=overview,
        tables=tables,
        alpha=ALPHA,
        plotly=Markup(get_plotlyjs()),
    )


def _case(place: int, finding: Finding, check: Check) -> _Case:
    one = finding.measured
    return _Case(
        finding,
        check.title,
        drawn_figure(f"series-{place}", charts.series(check, one)) if one.series else None,
        drawn_figure(f"slices-{place}", charts.slices(check, one)) if one.slices else None,
    )


def _row(report: DiagnosisReport, check: Check, one: Measured) -> _Row:
    low, high = shown(one.low, check.unit), shown(one.high, check.unit)
    return _Row(
        subject=one.subject or "all",
        value=shown(one.value, check.unit),
        interval=f"[{low.removesuffix(' times')}, {high.removesuffix(' times')}]",
        allowed=f"{'≤' if one.worse == 'above' else '≥'} {shown(one.allowed, check.unit)}",
        trend=one.trend.said if one.trend else "",
        doctors=one.doctors,
        p=f"{report.diagnosis.p_adjusted[check.id, one.subject]:.2g}",
        verdict=report.verdict(check.id, one.subject),
    )
