"""The table as a picture: latency above, pages in time below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from typing import Any

from recmesh.cli.load_generation.load_row import LoadRow, SurfaceRow
from recmesh.cli.load_generation.sweep import Sweep

PERCENTILES = {
    "p50": "#89c2d9",
    "p90": "#468faf",
    "p99": "#014f86",
    "p99.9": "#012a4a",
}
TITLE_WIDTH = 100
OFFERED, GOODPUT, KNEE = "#8d99ae", "#2a9d8f", "#c1121f"
_FIELD = {"p50": "p50_ms", "p90": "p90_ms", "p99": "p99_ms", "p99.9": "p999_ms"}


@dataclass(frozen=True)
class LoadPicture:
    """What is drawn: a point a row."""

    title: str
    rows: Sequence[LoadRow]
    x: Sequence[float]
    x_title: str
    knee_per_s: float | None = None
    stepped: bool = False
    """A value holds for a part of the axis, not for a point."""

    @classmethod
    def of_sweep(cls, sweep: Sweep, title: str) -> LoadPicture:
        """The curve over the rate, to the knee and the rates beyond it; each rate's last try."""
        last_tries = {row.rate_per_s: row for row in sweep.rows}
        rows = [last_tries[rate_per_s] for rate_per_s in sorted(last_tries)]
        knee = sweep.knee
        return cls(
            f"{title}: {sweep.verdict()}",
            rows,
            [row.rate_per_s for row in rows],
            "rate, requests/s",
            knee.rate_per_s if knee else None,
        )

    @classmethod
    def of_profile(cls, rows: Sequence[LoadRow], title: str) -> LoadPicture:
        """Over time; a point in the middle of each segment."""
        ends_s = accumulate(row.seconds for row in rows)
        middles_s = [end_s - row.seconds / 2 for row, end_s in zip(rows, ends_s, strict=True)]
        return cls(title, rows, middles_s, "seconds since the start", stepped=True)

    @property
    def deadline_ms(self) -> float:
        """The same for all rows."""
        return self.rows[0].deadline_ms

    def latencies_ms(self, percentile: str) -> list[float | None]:
        """One percentile; None where so many were not answered."""
        return [_latency_ms(row.total, percentile) for row in self.rows]

    def unanswered_x(self) -> list[float]:
        """Where the 99th percentile is of requests that were not answered."""
        return [x for x, row in zip(self.x, self.rows, strict=True) if row.total.p99_ms is None]

    def write(self, file: Path) -> None:
        """One ``.html`` that needs nothing else, or a ``.png``."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".png":
            self._write_png(file)
        else:
            self._write_html(file)

    def _write_html(self, file: Path) -> None:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
        hover = [_hover(row) for row in self.rows]
        markers = [("circle" if row.reliable else "circle-open") for row in self.rows]

        def add(name: str, y: Sequence[float | None], row: int, colour: str, **style: Any) -> None:
            figure.add_trace(
                go.Scatter(
                    x=self.x,
                    y=y,
                    name=name,
                    mode="lines+markers",
                    marker={"symbol": markers, "size": 8, "color": colour},
                    line={"color": colour, "shape": "hvh" if self.stepped else "linear", **style},
                    text=hover,
                    hovertemplate="%{text}<extra></extra>",
                ),
                row=row,
                col=1,
            )

        for name, colour in PERCENTILES.items():
            add(name, self.latencies_ms(name), 1, colour)
        unanswered = self.unanswered_x()
        figure.add_trace(
            go.Scatter(
                x=unanswered,
                y=[self.deadline_ms] * len(unanswered),
                mode="markers",
                marker={"symbol": "triangle-up", "size": 12, "color": KNEE},
                name="p99 not answered",
                hoverinfo="skip",
            ),
            row=1,
            col=1,
        )
        figure.add_hline(
            self.deadline_ms, line={"color": KNEE, "dash": "dot"}, row=1, annotation_text="deadline"
        )
        add("offered", [row.offered_per_s for row in self.rows], 2, OFFERED, dash="dash")
        add("goodput", [row.total.goodput_per_s for row in self.rows], 2, GOODPUT)
        if self.knee_per_s is not None:
            figure.add_vline(self.knee_per_s, line={"color": KNEE, "width": 1})
        figure.update_yaxes(title="latency, ms", type="log", row=1, col=1)
        figure.update_yaxes(title="pages in time, a second", rangemode="tozero", row=2, col=1)
        figure.update_xaxes(title=self.x_title, row=2, col=1)
        figure.update_layout(
            title="<br>".join(wrap(self.title, TITLE_WIDTH)),
            template="plotly_white",
            hoverlabel={"align": "left"},
            height=760,
        )
        file.write_text(figure.to_html(include_plotlyjs=True))

    def _write_png(self, file: Path) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        figure, (above, below) = pyplot.subplots(
            2, 1, sharex=True, figsize=(9, 6.5), dpi=130, height_ratios=(3, 2), layout="constrained"
        )

        def add(axes: Any, name: str, y: Sequence[float | None], colour: str, style: str) -> None:
            values = [float("nan") if value is None else value for value in y]
            drawn = "steps-mid" if self.stepped else "default"
            axes.plot(self.x, values, style, color=colour, label=name, drawstyle=drawn, zorder=2)
            for x, value, row in zip(self.x, values, self.rows, strict=True):
                face = colour if row.reliable else "white"
                axes.plot(x, value, "o", markersize=5, color=colour, markerfacecolor=face, zorder=3)

        for name, colour in PERCENTILES.items():
            add(above, name, self.latencies_ms(name), colour, "-")
        above.axhline(self.deadline_ms, color=KNEE, linestyle=":", linewidth=1.2, label="deadline")
        if unanswered := self.unanswered_x():
            marks = [self.deadline_ms] * len(unanswered)
            above.plot(
                unanswered, marks, "^", color=KNEE, markersize=9, label="p99 not answered", zorder=4
            )
        above.set(yscale="log", ylabel="latency from the intended start, ms")
        above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        above.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        above.yaxis.set_minor_formatter(NullFormatter())
        add(below, "offered", [row.offered_per_s for row in self.rows], OFFERED, "--")
        add(below, "goodput", [row.total.goodput_per_s for row in self.rows], GOODPUT, "-")
        below.set(xlabel=self.x_title, ylabel="pages in time, a second", ylim=(0, None))
        for axes in (above, below):
            if self.knee_per_s is not None:
                axes.axvline(self.knee_per_s, color=KNEE, linewidth=1, label="knee")
            if not all(row.reliable for row in self.rows):
                hollow = {"color": "gray", "markerfacecolor": "white", "linestyle": ""}
                axes.plot([], [], "o", label="generator late", **hollow)
            axes.grid(alpha=0.3)
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
        figure.suptitle("\n".join(wrap(self.title, TITLE_WIDTH)), fontsize=10)
        figure.savefig(file)
        pyplot.close(figure)


def _latency_ms(row: SurfaceRow, percentile: str) -> float | None:
    found: float | None = getattr(row, _FIELD[percentile])
    return found


def _hover(row: LoadRow) -> str:
    latencies = (f"{name} {_latency_ms(row.total, name) or 'not answered'}" for name in PERCENTILES)
    codes = (f"{code} {count}" for code, count in row.total.codes.items())
    return "<br>".join(
        [
            f"<b>{row.rate_per_s:.4g} requests/s</b>" + ("" if row.reliable else ", unreliable"),
            f"goodput {row.total.goodput_per_s:.1f}/s, degraded {row.total.degraded_share:.0%}",
            *latencies,
            f"generator's lag p99 {row.lag_p99_ms:.1f} ms",
            *codes,
        ]
    )
