"""A front as a picture: every point with what it is made of and, if asked, the page it gives."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import plotly.graph_objects as go

from recmesh.orchestrator.operating_point import OperatingPoint

Slates = Mapping[int, Sequence[str]]
"""Titles of the page that each point gives to one doctor, by the point's place."""


def _weights(point: OperatingPoint) -> str:
    weights = point.model_weights | {
        name: weight for name, weight in point.objective_weights.items() if name != "relevance"
    }
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())


def _hover(place: int, point: OperatingPoint, slates: Slates) -> str:
    measured = "<br>".join(f"{name} {value:.3f}" for name, value in point.metrics.items())
    lines = [f"<b>point {place}</b>", measured, f"diversity {point.diversity_strength:.2f}"]
    lines.append(_weights(point))
    lines += [f"{n}. {html.escape(title)}" for n, title in enumerate(slates.get(place, ()), 1)]
    return "<br>".join(lines)


def write_html(
    file: Path,
    front: Sequence[OperatingPoint],
    served: OperatingPoint | None,
    title: str,
    slates: Slates,
) -> None:
    """One page that needs nothing else: the first two metrics as axes, a third as colour.

    Args:
        file: to be written.
        front: at least one point.
        served: the one that the policy serves, if it is one of them.
        title: of the page.
        slates: shown with the points.
    """
    first, second, *further = front[0].metrics
    colour = further[0] if further else None
    figure = go.Figure(
        go.Scatter(
            x=[point.metrics[first] for point in front],
            y=[point.metrics[second] for point in front],
            mode="markers",
            marker={
                "size": 11,
                "color": [point.metrics[colour] for point in front] if colour else "#2a6f97",
                "colorbar": {"title": colour} if colour else None,
                "showscale": colour is not None,
            },
            text=[_hover(place, point, slates) for place, point in enumerate(front)],
            hovertemplate="%{text}<extra></extra>",
            name="front",
        )
    )
    if served is not None:
        figure.add_scatter(
            x=[served.metrics[first]],
            y=[served.metrics[second]],
            mode="markers",
            marker={"size": 20, "symbol": "circle-open", "color": "#c1121f", "line": {"width": 3}},
            hoverinfo="skip",
            name="served",
        )
    figure.update_layout(
        title=title,
        xaxis_title=first,
        yaxis_title=second,
        template="plotly_white",
        hoverlabel={"align": "left"},
    )
    file.write_text(figure.to_html(include_plotlyjs=True))


def write_png(
    file: Path, front: Sequence[OperatingPoint], served: OperatingPoint | None, title: str
) -> None:
    """The same without what a pointer shows. Arguments as of :func:`write_html`."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    first, second, *further = front[0].metrics
    colour = further[0] if further else None
    figure, axes = pyplot.subplots(figsize=(7, 5), dpi=150)
    drawn = axes.scatter(
        [point.metrics[first] for point in front],
        [point.metrics[second] for point in front],
        c=[point.metrics[colour] for point in front] if colour else "#2a6f97",
        s=40,
    )
    if colour:
        figure.colorbar(drawn, label=colour)
    if served is not None:
        axes.scatter(
            [served.metrics[first]],
            [served.metrics[second]],
            s=220,
            facecolors="none",
            edgecolors="#c1121f",
            linewidths=2,
            label="served",
        )
        axes.legend()
    axes.set(xlabel=first, ylabel=second, title=title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
