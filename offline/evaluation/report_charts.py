"""The figures of an evaluation's page, by Plotly."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.chart_labels import label_offsets
from recmesh.offline.evaluation.report import SEGMENTS, Report, System

INK, FAINT, LINE = "#22303c", "#6b7884", "#e3e7eb"
ACCENT = "#b5321f"
MODELS = ("#1f6f9f", "#2d8c6f", "#7a5ba6", "#c98a1b", "#5c7f1e", "#a34d7c", "#3f5fb0")
GREYS = ("#a9b2ba", "#8d98a2", "#737f8a", "#5d6973", "#475159")
DASHES = ("dot", "dash", "dashdot", "longdash", "solid")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
ROW_PX = 34


@dataclass(frozen=True, slots=True)
class Style:
    """How a system looks in all figures."""

    colour: str
    dash: str
    width: float


def blend_first(systems: Sequence[System]) -> list[System]:
    """The blend, then the models, then the baselines."""
    return sorted(systems, key=lambda system: ("blend", "model", "baseline").index(system.kind))


def styles(systems: Sequence[System]) -> dict[str, Style]:
    """By system: baselines grey and dashed, models in colours, the blend stands out."""
    found: dict[str, Style] = {}
    models = baselines = 0
    for system in systems:
        if system.kind == "blend":
            found[system.name] = Style(ACCENT, "solid", 3.5)
        elif system.kind == "model":
            found[system.name] = Style(MODELS[models % len(MODELS)], "solid", 2)
            models += 1
        else:
            at = baselines % len(GREYS)
            found[system.name] = Style(GREYS[at], DASHES[at], 1.6)
            baselines += 1
    return found


def blank_figure(height: int, **layout: object) -> go.Figure:
    """A figure in the house's style, without anything on it; ``height`` in px."""
    figure = go.Figure()
    figure.update_layout(
        height=height,
        template="none",
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 10, "r": 16, "t": 10, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 12}},
        **layout,
    )
    axis = {
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 12, "color": FAINT}},
        "tickfont": {"size": 12},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def error_bars(intervals: Sequence[Interval]) -> dict[str, object]:
    """Bars from low to high."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [found.high - found.value for found in intervals],
        "arrayminus": [found.value - found.low for found in intervals],
        "thickness": 1.6,
        "width": 0,
    }


def _said(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _defined(report: Report, segment: str, *metrics: str) -> list[System]:
    """Systems with a value of all these metrics."""
    return [
        system
        for system in report.systems
        if all(np.isfinite(system.segments[segment][metric].value) for metric in metrics)
    ]


def forest(report: Report) -> go.Figure:
    """nDCG of every system with its interval, the best on top; both segments side by side."""
    segments = [segment for segment in SEGMENTS if report.users[segment]]
    main = segments[-1]
    order = sorted(report.systems, key=lambda s: s.segments[main]["ndcg"].value)
    look = styles(report.systems)
    figure = blank_figure(
        70 + ROW_PX * len(order), legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"}
    )
    for segment in segments:
        found = [system.segments[segment]["ndcg"] for system in order]
        filled = segment == main
        shift = 0.0 if len(segments) == 1 else 0.15 if filled else -0.15
        rows = [place + shift for place in range(len(order))]
        for row, system, interval in zip(rows, order, found, strict=True):
            colour = look[system.name].colour
            figure.add_scatter(
                x=[interval.value],
                y=[row],
                error_x=error_bars([interval]) | {"color": colour},
                mode="markers",
                marker={
                    "size": 10 if filled else 8,
                    "color": colour if filled else "white",
                    "line": {"color": colour, "width": 1.6},
                },
                opacity=1.0 if filled else 0.75,
                hovertemplate=f"{html.escape(system.name)}, {SEGMENTS[segment]}<br>"
                f"nDCG@{report.k} {_said(interval)}<extra></extra>",
                showlegend=False,
            )
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={
                "size": 9,
                "color": FAINT if filled else "white",
                "line": {"color": FAINT, "width": 1.6},
            },
            name=report.group(segment),
        )
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=[_name(system) for system in order],
        range=[-0.6, len(order) - 0.4],
        showgrid=False,
    )
    figure.update_xaxes(title_text=f"nDCG@{report.k}", rangemode="tozero")
    return figure


def _name(system: System) -> str:
    name = html.escape(system.name)
    return f"<b>{name}</b>" if system.kind == "blend" else name


def _range(intervals: Sequence[Interval]) -> tuple[float, float]:
    low, high = min(found.low for found in intervals), max(found.high for found in intervals)
    margin = 0.1 * (high - low) or 0.1
    return low - margin, high + margin


def trade_off(report: Report, metric: str, segment: str) -> go.Figure:
    """Relevance against another metric, one point a system."""
    systems = _defined(report, segment, "ndcg", metric)
    look = styles(report.systems)
    described = next(found for found in report.metrics if found.metric == metric)
    unit = "" if described.unit == "0 to 1" else f", {described.unit}"
    names = [_name(system) for system in systems]
    across = [system.segments[segment][metric] for system in systems]
    up = [system.segments[segment]["ndcg"] for system in systems]
    figure = blank_figure(400, showlegend=False)
    left, right = _range(across)
    top = 1.12 * max(found.high for found in up)
    for system, x, y in zip(systems, across, up, strict=True):
        colour = look[system.name].colour
        figure.add_scatter(
            x=[x.value],
            y=[y.value],
            error_x=error_bars([x]) | {"color": colour, "thickness": 1},
            error_y=error_bars([y]) | {"color": colour, "thickness": 1},
            mode="markers",
            marker={"size": 13 if system.kind == "blend" else 10, "color": colour},
            cliponaxis=False,
            hovertemplate=f"{html.escape(system.name)}<br>nDCG@{report.k} {_said(y)}<br>"
            f"{described.label} {_said(x)}<extra></extra>",
        )
    placed = label_offsets(across, up, [len(s.name) for s in systems], (left, right), (0.0, top))
    for system, name, x, y, (ax, ay) in zip(systems, names, across, up, placed, strict=True):
        figure.add_annotation(
            x=x.value,
            y=y.value,
            ax=ax,
            ay=ay,
            text=name,
            font={"size": 12, "color": look[system.name].colour},
            showarrow=True,
            arrowhead=0,
            arrowwidth=0.7,
            arrowcolor=look[system.name].colour,
            standoff=5,
        )
    figure.update_xaxes(title_text=f"{described.label}{unit} →", range=[left, right])
    figure.update_yaxes(title_text=f"nDCG@{report.k} →", range=[0, top])
    return figure


def heat_map(report: Report) -> go.Figure:
    """nDCG by slice and system; a cell's colour is its share of the slice's best."""
    slices, systems = report.slices[::-1], blend_first(report.systems)
    values = np.array(
        [[one.systems[system.name]["ndcg"].value for system in systems] for one in slices]
    )
    best = np.maximum(np.nanmax(values, axis=1, keepdims=True), 1e-9)
    hover = [
        [
            f"{html.escape(one.name)}, {one.users:,} users<br>{html.escape(system.name)}: "
            f"{_said(one.systems[system.name]['ndcg'])}"
            for system in systems
        ]
        for one in slices
    ]
    figure = blank_figure(90 + 27 * len(slices))
    figure.add_heatmap(
        z=values / best,
        x=[html.escape(system.name).replace(" ", "<br>") for system in systems],
        y=list(range(len(slices))),
        text=[[f"{value:.3f}" for value in row] for row in values],
        texttemplate="%{text}",
        textfont={"size": 11.5, "color": INK},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=[[0, "#f7f9fb"], [0.5, "#cfe0ec"], [1, "#5b9bc4"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure.update_yaxes(
        tickvals=list(range(len(slices))),
        ticktext=[
            f"{html.escape(one.name)} <span style='color:{FAINT}'>· {one.users:,}</span>"
            for one in slices
        ],
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(side="top", showgrid=False, tickangle=0, ticks="")
    # A rule between dimensions.
    for row in range(1, len(slices)):
        if slices[row].dimension != slices[row - 1].dimension:
            figure.add_hline(y=row - 0.5, line={"color": INK, "width": 1})
    figure.update_layout(margin={"l": 10, "r": 10, "t": 50, "b": 10})
    return figure


def lorenz_curves(report: Report) -> go.Figure:
    """Whose attention goes where: the share that the least shown items have together."""
    look = styles(report.systems)
    figure = blank_figure(400, legend={"x": 0.02, "y": 0.98, "bgcolor": "rgba(255,255,255,.8)"})
    for name, curve in report.lorenz.items():
        if not curve:
            continue
        figure.add_scatter(
            x=list(range(len(curve))),
            y=[100 * share for share in curve],
            mode="lines",
            line={
                "color": look[name].colour,
                "width": look[name].width,
                "dash": look[name].dash,
            },
            name=html.escape(name),
            hovertemplate=f"{html.escape(name)}: the least shown %{{x}}% of items have "
            "%{y:.1f}% of the attention<extra></extra>",
        )
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        line={"color": LINE, "width": 1.5},
        name="evenly",
        hoverinfo="skip",
    )
    figure.update_xaxes(title_text="share of the catalogue, least shown first, %", range=[0, 100])
    figure.update_yaxes(title_text="share of attention, %", range=[0, 101])
    return figure


def popularity_lift(report: Report, segment: str) -> go.Figure:
    """How much more popular pages are than their users' own histories."""
    systems = _defined(report, segment, "popularity_lift")
    systems.sort(key=lambda s: -abs(s.segments[segment]["popularity_lift"].value))
    look = styles(report.systems)
    figure = blank_figure(60 + ROW_PX * len(systems), showlegend=False)
    for row, system in enumerate(systems):
        found = system.segments[segment]["popularity_lift"]
        colour = look[system.name].colour
        figure.add_scatter(
            x=[0, found.value],
            y=[row, row],
            mode="lines",
            line={"color": colour, "width": 2},
            opacity=0.4,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[found.value],
            y=[row],
            error_x=error_bars([found]) | {"color": colour},
            mode="markers",
            marker={"size": 10, "color": colour},
            hovertemplate=f"{html.escape(system.name)}: {found.value:+.0%} "
            f"[{found.low:+.0%}, {found.high:+.0%}]<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title_text="page against history", tickformat="+.0%")
    figure.update_yaxes(
        tickvals=list(range(len(systems))),
        ticktext=[_name(system) for system in systems],
        range=[-0.6, len(systems) - 0.4],
        showgrid=False,
    )
    return figure
