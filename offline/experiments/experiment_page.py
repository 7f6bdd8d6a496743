"""An experiment's report as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recmesh.offline.experiments.experiment_report import ExperimentReport

TEMPLATE = "experiment_page.html.j2"
INK, FAINT, ACCENT = "#22303c", "#9aa5ae", "#b5321f"


def html_page(report: ExperimentReport) -> str:
    """The page; equal reports give equal pages."""
    figures = {}
    if report.analysis is not None and report.analysis.goals:
        figures["goals"] = _drawn("goals", _goals(report))
    if report.analysis is not None and any(s.effects for s in report.analysis.slices):
        figures["slices"] = _drawn("slices", _slices(report))
    return _template().render(report=report, figures=figures, plotly=Markup(get_plotlyjs()))


def interval(ends: tuple[float, float]) -> str:
    """For people."""
    if not all(math.isfinite(end) for end in ends):
        return "nothing yet"
    return f"{ends[0]:+.4g} to {ends[1]:+.4g}"


def small_p(p: float) -> str:
    """For people."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "p": small_p}
    return environment.get_template(TEMPLATE)


def _drawn(name: str, drawn: go.Figure) -> Markup:
    text = drawn.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{name}",
        config={"responsive": True, "displayModeBar": False},
    )
    return Markup(text)


def _forest(rows: list[tuple[str, float, float, float, str]]) -> go.Figure:
    """Points with intervals, top down: label, value, low, high, colour; all in per cent."""
    figure = go.Figure()
    for label, value, low, high, colour in reversed(rows):
        figure.add_trace(
            go.Scatter(
                x=[value],
                y=[label],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value],
                    "arrayminus": [value - low],
                    "color": colour,
                    "thickness": 2,
                },
                marker={"color": colour, "size": 9},
                mode="markers",
                showlegend=False,
                hovertemplate=f"{label}: %{{x:.2f}}%, {low:.2f}% to {high:.2f}%<extra></extra>",
            )
        )
    figure.add_vline(0, line_color=FAINT, line_width=1)
    figure.update_layout(
        height=90 + 34 * len(rows),
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"color": INK, "size": 13},
        xaxis={"title": "difference, % of control", "gridcolor": "#e3e7eb", "ticksuffix": "%"},
        yaxis={"automargin": True},
    )
    return figure


def _goals(report: ExperimentReport) -> go.Figure:
    assert report.analysis is not None
    rows = []
    for goal in report.analysis.goals:
        level = abs(goal.effect.control) or 1.0
        ends = goal.interval if report.final else goal.always_valid_interval
        low, high = (end if math.isfinite(end) else goal.effect.difference for end in ends)
        clear = low > 0 or high < 0
        rows.append(
            (
                f"{goal.metric}, {goal.arm}",
                100 * goal.effect.difference / level,
                100 * low / level,
                100 * high / level,
                ACCENT if clear else INK,
            )
        )
    return _forest(rows)


def _slices(report: ExperimentReport) -> go.Figure:
    assert report.analysis is not None
    rows = []
    for found in report.analysis.slices:
        for value, effect in found.effects.items():
            level = abs(effect.control) or 1.0
            low, high = effect.interval(report.alpha)
            rows.append(
                (
                    f"{found.metric}, {found.arm}, {found.column} {value}",
                    100 * effect.difference / level,
                    100 * low / level,
                    100 * high / level,
                    INK,
                )
            )
    return _forest(rows)
