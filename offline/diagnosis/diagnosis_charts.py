"""The figures of a diagnosis' page, by Plotly."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from recmesh.offline.diagnosis.check import Check, Unit
from recmesh.offline.diagnosis.diagnose import Diagnosis
from recmesh.offline.diagnosis.finding import Measured, Part
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.report_charts import (
    ACCENT,
    FAINT,
    INK,
    LINE,
    MODELS,
    ROW_PX,
    blank_figure,
    error_bars,
)

MOST_SLICES = 12
FARTHEST = 16.0
"""Times a bound, up or down, that the overview reaches."""


def _interval(part: Part | Measured) -> Interval:
    return Interval(part.value, part.low, part.high)


def _format(unit: Unit) -> str:
    return ".0%" if unit == "share" else ".3~g"


def worst_of(diagnosis: Diagnosis, checks: Sequence[Check]) -> list[tuple[Check, Measured]]:
    """Of every check that measured anything, its worst number."""
    found = []
    for check in checks:
        some = diagnosis.measured.get(check.id, [])
        if some:
            found.append((check, min(some, key=lambda one: one.urgency)))
    return found


def _within(times: float) -> float:
    return float(np.clip(times, 1 / FARTHEST, FARTHEST))


def overview(diagnosis: Diagnosis, checks: Sequence[Check]) -> go.Figure:
    """How far each check's worst number is from its bound."""
    rows = worst_of(diagnosis, checks)[::-1]
    found = {(finding.check, finding.measured.subject) for finding in diagnosis.findings}
    figure = blank_figure(70 + ROW_PX * len(rows), showlegend=False)
    for place, (check, one) in enumerate(rows):
        colour = ACCENT if (check.id, one.subject) in found else MODELS[0]
        ends = sorted(_within(one.times_allowed(end)) for end in (one.low, one.high))
        at = _within(one.times_allowed(one.value))
        figure.add_scatter(
            x=[at],
            y=[place],
            error_x=error_bars([Interval(at, ends[0], ends[1])]) | {"color": colour},
            mode="markers",
            marker={"size": 10, "color": colour},
            hovertemplate=f"{html.escape(check.title)} {html.escape(one.subject)}<br>"
            f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], allowed {one.allowed:.3f}"
            "<extra></extra>",
        )
    figure.add_vline(x=1, line={"color": INK, "width": 1})
    figure.update_xaxes(
        type="log",
        range=[-np.log10(FARTHEST), np.log10(FARTHEST)],
        tickvals=[1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16],
        ticktext=["1/16", "1/4", "1/2", "the bound", "2", "4", "16"],
        title_text="times what is allowed; right of the line is beyond it",
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[
            html.escape(f"{check.title}{', ' if one.subject else ''}{one.subject}")
            for check, one in rows
        ],
        range=[-0.6, len(rows) - 0.4],
        showgrid=False,
    )
    return figure


def series(check: Check, one: Measured) -> go.Figure:
    """The number over time, with its interval."""
    unit = check.level_unit or check.unit
    figure = blank_figure(240, showlegend=False)
    days = [part.name for part in one.series]
    for bound, dash in (("high", None), ("low", "tonexty")):
        figure.add_scatter(
            x=days,
            y=[getattr(part, bound) for part in one.series],
            mode="lines",
            line={"width": 0},
            fill=dash,
            fillcolor="rgba(31,111,159,.15)",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=days,
        y=[part.value for part in one.series],
        mode="lines+markers",
        line={"color": MODELS[0], "width": 2},
        marker={"size": 7},
        hovertemplate="%{x|%-d %b}: %{y:.3f}<extra></extra>",
    )
    if not check.level:
        _bound(figure, one, "h")
    figure.update_yaxes(title_text=check.level or "", tickformat=_format(unit))
    return figure


def slices(check: Check, one: Measured) -> go.Figure:
    """The number of each slice, worst on top."""
    some = one.slices[:MOST_SLICES][::-1]
    figure = blank_figure(80 + 27 * len(some), showlegend=False)
    for place, part in enumerate(some):
        beyond = part.low > one.allowed if one.worse == "above" else part.high < one.allowed
        colour = ACCENT if beyond else FAINT
        figure.add_scatter(
            x=[part.value],
            y=[place],
            error_x=error_bars([_interval(part)]) | {"color": colour},
            mode="markers",
            marker={"size": 9, "color": colour},
            hovertemplate=f"{html.escape(part.name)}, {part.doctors:,} doctors<br>"
            f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]<extra></extra>",
        )
    _bound(figure, one, "v")
    figure.update_yaxes(
        tickvals=list(range(len(some))),
        ticktext=[
            f"{html.escape(part.name)} <span style='color:{FAINT}'>· {part.doctors:,}</span>"
            for part in some
        ],
        range=[-0.6, len(some) - 0.4],
        showgrid=False,
    )
    figure.update_xaxes(tickformat=_format(check.unit))
    return figure


def _bound(figure: go.Figure, one: Measured, way: str) -> None:
    for value, colour in ((one.allowed, INK), (one.severe, ACCENT)):
        line = {"color": colour, "width": 1, "dash": "dot"}
        if way == "h":
            figure.add_hline(y=value, line=line)
        else:
            figure.add_vline(x=value, line=line)
    if way == "v":
        figure.update_xaxes(gridcolor=LINE)
