"""One trace as a waterfall: in the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recmesh.deployments.span_receiver import SentSpan

PREFIX = "recmesh-"
COLOURS = (
    *("#8c8c8c", "#228833", "#4477aa", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#332288"),
)
"""After Tol's schemes, told apart by colour-blind people, too. Red is for what failed."""
TERMINAL = (
    *("white", "green", "blue", "yellow", "cyan", "magenta", "bright_yellow", "bright_blue"),
)
BAR = 30
"""Characters of a bar in the terminal."""
MOST_LETTERS = 42
"""Of a name and what it is moved in by."""
ROW_IN = 0.27
"""Inches of a row in a picture."""


@dataclass(frozen=True, slots=True)
class Row:
    """One span, in its place."""

    span: SentSpan
    depth: int
    from_ms: float
    """Since the trace began."""

    @property
    def service(self) -> str:
        """Who did it, without what all have in common; of a database, its kind."""
        database = self.span.attributes.get("db.system.name")
        return str(database or self.span.service.removeprefix(PREFIX))

    @property
    def name(self) -> str:
        """Of the span, short enough for its place."""
        most = MOST_LETTERS - 2 * self.depth
        name = self.span.name.removeprefix("recmesh.v1.")
        return name if len(name) <= most else f"{name[: most - 1]}…"

    @property
    def note(self) -> str:
        """What is worth a word beside its time."""
        said = self.span.attributes
        parts = []
        if "recmesh.candidates" in said:
            parts.append(f"{said['recmesh.candidates']} candidates")
        if "recmesh.slots" in said:
            parts.append(f"{said['recmesh.slots']} slots")
        if said.get("recmesh.degraded"):
            parts.append("degraded")
        if self.span.failed:
            parts.append(str(said.get("error.type", "failed")))
        return ", ".join(parts)


def rows(spans: Sequence[SentSpan]) -> list[Row]:
    """Parents before children, these by their start. What has no parent here begins a tree."""
    known = {span.span_id for span in spans}
    children: dict[str, list[SentSpan]] = {}
    for span in sorted(spans, key=lambda one: (one.start_unix_ns, -one.end_unix_ns)):
        parent = span.parent_id if span.parent_id in known else ""
        children.setdefault(parent, []).append(span)
    began_ns = min((span.start_unix_ns for span in spans), default=0)
    found: list[Row] = []

    def below(parent: str, depth: int) -> None:
        for span in children.get(parent, ()):
            found.append(Row(span, depth, (span.start_unix_ns - began_ns) / 1e6))
            below(span.span_id, depth + 1)

    below("", 0)
    return found


def _services(waterfall: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.service for row in waterfall))


def _whole_ms(waterfall: Sequence[Row]) -> float:
    return max((row.from_ms + row.span.took_ms for row in waterfall), default=0.0) or 1.0


def print_waterfall(console: Console, waterfall: Sequence[Row]) -> None:
    """Draws it with characters."""
    services, whole_ms = _services(waterfall), _whole_ms(waterfall)
    table = Table(
        Column("span", no_wrap=True),
        Column("in", no_wrap=True),
        Column("ms", justify="right", no_wrap=True),
        Column(no_wrap=True, min_width=BAR),
        "",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for row in waterfall:
        colour = TERMINAL[services.index(row.service) % len(TERMINAL)]
        start = min(int(BAR * row.from_ms / whole_ms), BAR - 1)
        length = max(1, min(round(BAR * row.span.took_ms / whole_ms), BAR - start))
        table.add_row(
            "  " * row.depth + row.name,
            Text(row.service, style=colour),
            f"{row.span.took_ms:.1f}",
            Text(" " * start + "━" * length, style="bold red" if row.span.failed else colour),
            Text(row.note, style="red" if row.span.failed else "dim"),
        )
    console.print(table)


def draw_waterfall(waterfall: Sequence[Row], title: str, out: Path) -> None:
    """Writes a picture; what kind is by the file's name: svg, png or pdf."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    services, whole_ms = _services(waterfall), _whole_ms(waterfall)
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(services)}
    height = ROW_IN * len(waterfall) + 1.1
    # The same trace makes the same file.
    with mpl.rc_context({"svg.hashsalt": "recmesh", "font.size": 9}):
        figure, (names, bars) = plt.subplots(
            1, 2, figsize=(13, height), sharey=True, width_ratios=(5, 9)
        )
        for y, row in enumerate(waterfall):
            if y % 2:
                for axes in (names, bars):
                    axes.axhspan(y - 0.5, y + 0.5, color="#f4f5f7", zorder=0)
            names.text(0.025 * row.depth, y, row.name, va="center", fontsize=9)
            bars.barh(
                y,
                max(row.span.took_ms, whole_ms / 600),
                left=row.from_ms,
                height=0.62,
                color=colours[row.service],
                edgecolor="#cc3311" if row.span.failed else "none",
                linewidth=1.6,
                zorder=3,
            )
            label = f"{row.span.took_ms:.1f} ms" + (f"   {row.note}" if row.note else "")
            end_ms = row.from_ms + row.span.took_ms
            inside = end_ms > 0.66 * whole_ms
            wide = row.span.took_ms > 0.3 * whole_ms
            if inside and wide:
                place, align, colour = end_ms - 0.006 * whole_ms, "right", "white"
            elif inside:
                place, align, colour = row.from_ms - 0.006 * whole_ms, "right", "#333333"
            else:
                place, align, colour = end_ms + 0.006 * whole_ms, "left", "#333333"
            bars.text(place, y, label, va="center", ha=align, fontsize=8, color=colour, zorder=4)
        names.set_xlim(0, 1)
        names.set_ylim(len(waterfall) - 0.5, -0.5)
        names.axis("off")
        bars.set_xlim(-0.005 * whole_ms, 1.005 * whole_ms)
        bars.xaxis.set_ticks_position("top")
        bars.xaxis.set_label_position("top")
        bars.set_xlabel("milliseconds since the request was sent")
        bars.tick_params(axis="y", left=False, labelleft=False)
        bars.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=1)
        for side in ("left", "right", "bottom"):
            bars.spines[side].set_visible(False)
        handles = [Rectangle((0, 0), 1, 1, color=colours[name]) for name in services]
        figure.legend(
            handles, services, loc="lower left", ncols=len(services), frameon=False,
            bbox_to_anchor=(0.0, 0.0), fontsize=9,
        )  # fmt: skip
        figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")
        inches = figure.get_figheight()
        figure.subplots_adjust(
            left=0.008, right=0.992, top=1 - 0.75 / inches, bottom=0.35 / inches, wspace=0.01
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=160, metadata={"Date": None} if out.suffix == ".svg" else None)
        plt.close(figure)
