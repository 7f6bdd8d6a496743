"""What was measured, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.load_generation.latency_record import OK
from recmesh.cli.load_generation.load_row import LoadRow, SurfaceRow
from recmesh.cli.load_generation.page_feedback import PageFeedback

_RIGHT = ("offered", "achieved", "goodput", "p50", "p90", "p99", "p99.9", "lag", "degraded")


def _ms(latency_ms: float | None) -> str:
    return "failed" if latency_ms is None else f"{latency_ms:.1f}"


def _latencies(row: SurfaceRow) -> tuple[str, ...]:
    return _ms(row.p50_ms), _ms(row.p90_ms), _ms(row.p99_ms), _ms(row.p999_ms)


def _codes(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in Counter(codes).most_common())


def _degraded(row: SurfaceRow) -> str:
    return f"{row.degraded_share:.0%}" if row.codes.get(OK) else ""


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name == "surface" else "right", no_wrap=True)
    table.add_column("codes")
    return table


def print_rows(console: Console, rows: Sequence[LoadRow], knee: LoadRow | None = None) -> None:
    """The latency-throughput table: a line a rate."""
    table = _table("requests a second; ms from the intended start", ("rate", *_RIGHT))
    for row in rows:
        table.add_row(
            f"{row.rate_per_s:.4g}" + ("" if row.reliable else " *"),
            f"{row.offered_per_s:.1f}",
            f"{row.achieved_per_s:.1f}",
            f"{row.total.goodput_per_s:.1f}",
            *_latencies(row.total),
            f"{row.lag_p99_ms:.1f}",
            _degraded(row.total),
            _codes(row.total.codes),
            style="bold" if row is knee else "" if row.holds else "red",
        )
    console.print(table)
    if not all(row.reliable for row in rows):
        console.print(
            "* unreliable: the generator itself was late (lag, p99). Leave it cores of its own, or "
            "split the rate among several generators, each with its own --seed",
            highlight=False,
        )


def print_surfaces(console: Console, row: LoadRow) -> None:
    """One row's requests, by surface."""
    table = _table(
        f"by surface, at {row.rate_per_s:.4g} requests/s",
        ("surface", "requests", "goodput", *_RIGHT[3:7], "degraded"),
    )
    for name, surface in row.surfaces.items():
        table.add_row(
            escape(name),
            f"{surface.requests:,}",
            f"{surface.goodput_per_s:.1f}",
            *_latencies(surface),
            _degraded(surface),
            _codes(surface.codes),
        )
    console.print(table)


def print_feedback(console: Console, feedback: PageFeedback) -> None:
    """What became of what was sent back."""
    latency = feedback.batches.percentiles_ms()
    console.print(
        f"feedback: {feedback.batches.requests:,} batches, {_codes(feedback.batches.codes)}; "
        f"p50 {_ms(latency[50.0])} ms, p99 {_ms(latency[99.0])} ms; events: "
        f"{_codes(feedback.events)}",
        highlight=False,
    )
