"""An evaluation as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recmesh.offline.evaluation import report_charts as charts
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.report import SEGMENTS, Report, figure, shown
from recmesh.offline.metrics.descriptions import Description

TEMPLATE = "report_page.html.j2"
BLEND = "blend"
HEADLINES = ("hit_rate", "diversity", "coverage", "serendipity", "popularity_lift", "freshness")
ARROWS = {"higher": "↑", "lower": "↓", "nearer 0": "→ 0", "neither": "·"}
CONFIG = {"responsive": True, "displayModeBar": False}


@dataclass(frozen=True, slots=True)
class Headline:
    """One large number."""

    label: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A system's value of a metric."""

    value: str
    interval: str
    best: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A metric in the table."""

    described: Description
    arrow: str
    cells: list[Cell]


def html_page(report: Report) -> str:
    """The page; equal reports give equal pages."""
    segments = [segment for segment in SEGMENTS if report.users[segment]]
    main = segments[-1]
    history = "known" if "known" in segments else main
    names = {found.metric for found in report.metrics}
    figures: dict[str, Markup] = {"forest": drawn_figure("forest", charts.forest(report))}
    for metric in ("diversity", "novelty"):
        if metric in names:
            figures[metric] = drawn_figure(metric, charts.trade_off(report, metric, main))
    if report.slices:
        figures["slices"] = drawn_figure("slices", charts.heat_map(report))
    figures["lorenz"] = drawn_figure("lorenz", charts.lorenz_curves(report))
    if "popularity_lift" in names:
        figures["lift"] = drawn_figure("lift", charts.popularity_lift(report, history))
    return page_template(TEMPLATE).render(
        report=report,
        systems=charts.blend_first(report.systems),
        figures=figures,
        headlines=_headlines(report, main, history),
        tables={
            report.group(segment): _families(report, segment) for segment in reversed(segments)
        },
        main=report.group(main),
        history=report.group(history),
        days={name: _day(getattr(report, f"{name}_start")) for name in ("validation", "test")},
        last_day=_day(report.data.ends),
        plotly=Markup(get_plotlyjs()),
    )


@cache
def page_template(name: str, folder: Path = Path(__file__).parent) -> Template:
    """A page's template of a folder; may include those beside this file."""
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def drawn_figure(name: str, drawn: go.Figure) -> Markup:
    """The figure as part of a page that has Plotly's code; ``name`` is its own on the page."""
    text = drawn.to_html(
        full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=CONFIG
    )
    return Markup(text)


def _day(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%-d %B %Y}"


def _headlines(report: Report, main: str, history: str) -> list[Headline]:
    blend = next(system for system in report.systems if system.kind == BLEND)
    ndcg = blend.segments[main]["ndcg"]
    found = [Headline(f"nDCG@{report.k} of the blend", figure(ndcg.value), _between(ndcg), "")]
    for comparison in report.comparisons:
        if comparison.segment == main:
            gain = comparison.difference
            clear = "clear of 0" if gain.low > 0 or gain.high < 0 else "not clear of 0"
            found.append(
                Headline(
                    f"against {comparison.baseline}",
                    f"{gain.value:+.3f}",
                    _between(gain, signed=True),
                    f"best baseline; {clear}",
                )
            )
    described = {one.metric: one for one in report.metrics}
    for metric in HEADLINES:
        if metric in described:
            interval = blend.segments[history if metric == "popularity_lift" else main][metric]
            signed = metric == "popularity_lift"
            found.append(
                Headline(
                    described[metric].label,
                    f"{interval.value:+.3f}" if signed else figure(interval.value),
                    _between(interval, signed),
                    SEGMENTS[history] if signed and history != main else "",
                )
            )
    return found


def _between(interval: Interval, signed: bool = False) -> str:
    return shown(interval, signed).partition(" ")[2]


def _families(report: Report, segment: str) -> list[tuple[str, list[Row]]]:
    rows = [_row(report, described, segment) for described in report.metrics]
    return [(name, list(own)) for name, own in groupby(rows, lambda row: row.described.family)]


def _row(report: Report, described: Description, segment: str) -> Row:
    figures: Mapping[str, Interval] = {
        system.name: system.segments[segment][described.metric]
        for system in charts.blend_first(report.systems)
    }
    values = np.array([found.value for found in figures.values()])
    best = _best(values, described)
    cells = [
        Cell(
            figure(found.value),
            f"[{figure(found.low)}, {figure(found.high)}]" if found.value == found.value else "",
            bool(best[place]),
        )
        for place, found in enumerate(figures.values())
    ]
    return Row(described, ARROWS[described.better], cells)


def _best(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], described: Description
) -> list[bool]:
    """Which values are the best; none where no direction is better."""
    if described.better == "neither" or not np.isfinite(values).any():
        return [False] * len(values)
    worth = {"higher": values, "lower": -values, "nearer 0": -np.abs(values)}[described.better]
    return list(worth == np.nanmax(worth))
