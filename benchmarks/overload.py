"""Asks a running mesh for three times what it can answer, and says who was answered.

    recmesh up --detach
    python -m benchmarks.overload
    python -m benchmarks.overload --times 5 --critical 0.3

First the rate is raised until goodput no longer grows: the peak. Then so many times as much is
asked for, a part of it as critical, the rest half as normal and half as batch, by callers who do
not try again; then half of the peak, second by second, until pages come as before. Ends with 1 when
goodput falls below nine tenths of the peak, when more than a thousandth of critical requests fails,
or when recovery takes more than 5 seconds. The generator takes CPU from the mesh, three times as
much while it asks for three times as much: the peak is held against what was left of the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.asked_mesh import AskedMesh, lasting_from
from benchmarks.wide_console import wide_console
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.load_run import LoadRun
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX
from recmesh.orchestrator.overload.priority import Priority

GROWTH = 1.3
SECONDS = 8.0
GIVE_UP_ROWS = 20
LEAST_GOODPUT = 0.9
MOST_CRITICAL_FAILED = 0.001
MOST_RECOVERY_S = 5
RECOVERY_LOOKS = 12


@dataclass(frozen=True)
class Outcome:
    """What was asked and what came."""

    peak_per_s: float
    """Pages within the deadline, a second, at the best rate."""
    asked_per_s: float
    goodput_per_s: float
    peak_left_per_s: float
    """The peak, less what the generator took more of the cores than then."""
    by_priority: dict[str, dict[str, int]]
    """Requests by code."""
    p99_ms: dict[str, float | None]
    lag_ms: float
    """How late the generator itself was, 99th percentile."""
    recovered_s: float | None
    broken: list[str]


@dataclass(frozen=True)
class Measured:
    """What a while of asking showed."""

    rows: dict[Priority, LoadRow]
    mesh_cores: float
    """Cores that the generator did not take."""

    @property
    def goodput_per_s(self) -> float:
        """Pages within the deadline, of all priorities, a second."""
        return sum(row.total.goodput_per_s for row in self.rows.values())


def _quiet(*_: Any) -> None:
    pass


class Overload:
    """One mesh, asked by callers of every priority."""

    def __init__(self, runs: dict[Priority, LoadRun]) -> None:
        self._runs = runs

    async def peak(self, first_per_s: float, say: Any) -> Measured:
        """Raises the rate until goodput has stopped to grow twice."""
        best, worse, rate = Measured({}, 0.0), 0, first_per_s
        for _ in range(GIVE_UP_ROWS):
            found = await self.ask({Priority.NORMAL: rate}, SECONDS)
            say(f"{rate:.0f}/s asked: {found.goodput_per_s:.0f}/s within the deadline")
            worse = 0 if found.goodput_per_s > best.goodput_per_s else worse + 1
            best = max(best, found, key=lambda measured: measured.goodput_per_s)
            if worse == 2:
                break
            rate *= GROWTH
            await asyncio.sleep(1.0)
        return best

    async def ask(self, rates: dict[Priority, float], seconds: float) -> Measured:
        """All priorities at once."""
        began_s, busy_s = time.monotonic(), time.process_time()
        rows = await asyncio.gather(
            *(
                self._runs[priority].profile([Segment(rate, seconds)], "", _quiet)
                for priority, rate in rates.items()
            )
        )
        share = (time.process_time() - busy_s) / (time.monotonic() - began_s)
        found = {priority: row[0] for priority, row in zip(rates, rows, strict=True)}
        return Measured(found, (os.cpu_count() or 1) - share)

    async def recovery(self, rate: float) -> float | None:
        """Seconds until pages come as they should."""
        parts = [Segment(rate, 1.0)] * RECOVERY_LOOKS
        rows = await self._runs[Priority.NORMAL].profile(parts, "", _quiet)
        fine = [set(row.total.codes) <= {"OK"} and row.holds for row in rows]
        found = lasting_from(fine)
        return None if found is None else float(found)


async def run(chosen: argparse.Namespace) -> Outcome:
    """Peak, overload, recovery."""
    asked = AskedMesh.running(chosen.mix)
    say = _quiet if chosen.json else print
    async with AsyncExitStack() as stack:
        runs = {
            priority: await stack.enter_async_context(
                asked.loaded(
                    deadline_s=chosen.deadline_s, seed=chosen.seed + priority, priority=priority
                )
            )
            for priority in Priority
        }
        overload = Overload(runs)
        best = await overload.peak(chosen.first, say)
        peak = best.goodput_per_s
        critical = chosen.critical * peak
        others = (chosen.times * peak - critical) / 2
        rates = dict(zip(Priority, (critical, others, others), strict=True))
        await asyncio.sleep(2.0)
        flood = await overload.ask(rates, chosen.seconds)
        recovered_s = await overload.recovery(peak / 2)
    return judged(best, flood, recovered_s)


def judged(best: Measured, flood: Measured, recovered_s: float | None) -> Outcome:
    """Holds what was measured against the limits."""
    rows, goodput = flood.rows, flood.goodput_per_s
    peak_left = best.goodput_per_s * flood.mesh_cores / best.mesh_cores
    critical = rows[Priority.CRITICAL].total
    failed = 1 - critical.codes.get("OK", 0) / critical.requests
    broken = []
    if goodput < LEAST_GOODPUT * peak_left:
        share = goodput / peak_left
        broken.append(f"goodput {share:.0%} of the peak, at least {LEAST_GOODPUT:.0%}")
    if failed > MOST_CRITICAL_FAILED:
        broken.append(f"{failed:.2%} of critical failed, at most {MOST_CRITICAL_FAILED:.1%}")
    if recovered_s is None or recovered_s > MOST_RECOVERY_S:
        broken.append(f"recovered after {recovered_s} s, at most {MOST_RECOVERY_S}")
    return Outcome(
        peak_per_s=best.goodput_per_s,
        asked_per_s=sum(row.offered_per_s for row in rows.values()),
        goodput_per_s=goodput,
        peak_left_per_s=peak_left,
        by_priority={p.name.lower(): dict(row.total.codes) for p, row in rows.items()},
        p99_ms={p.name.lower(): row.total.p99_ms for p, row in rows.items()},
        lag_ms=max(row.lag_p99_ms for row in rows.values()),
        recovered_s=recovered_s,
        broken=broken,
    )


def table(outcome: Outcome) -> Table:
    """A line a priority."""
    made = Table(title="who was answered", title_justify="left")
    for column in ("priority", "requests", "answered", "p99, ms", "others"):
        made.add_column(column, justify="left" if column == "priority" else "right")
    for name, codes in outcome.by_priority.items():
        total, answered = sum(codes.values()), codes.get("OK", 0)
        p99_ms = outcome.p99_ms[name]
        others = ", ".join(f"{n} {code}" for code, n in codes.items() if code != "OK")
        made.add_row(
            name,
            f"{total:,}",
            f"{answered / max(total, 1):.2%}",
            "none" if p99_ms is None else f"{p99_ms:.0f}",
            others,
        )
    return made


def said(outcome: Outcome) -> Sequence[str]:
    """What it came to, and limits that do not hold."""
    goodput, peak, left = outcome.goodput_per_s, outcome.peak_per_s, outcome.peak_left_per_s
    return [
        f"peak {peak:.0f}/s; asked {outcome.asked_per_s:.0f}/s, answered in time {goodput:.0f}/s",
        f"{goodput / peak:.0%} of the peak; {goodput / left:.0%} of what the cores are worth that "
        "the generator left",
        f"as before after {outcome.recovered_s} s; generator {outcome.lag_ms:.0f} ms late",
        *([f"broken: {line}" for line in outcome.broken] or ["all limits hold"]),
    ]


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=float, default=30.0, help="rate to begin with, a second")
    parser.add_argument("--times", type=float, default=3.0, help="of the peak to ask for")
    parser.add_argument("--critical", type=float, default=0.2, help="of the peak, as critical")
    parser.add_argument("--seconds", type=float, default=15.0, help="of overload")
    parser.add_argument("--deadline-s", type=float, default=0.5)
    parser.add_argument("--mix", default=DEFAULT_MIX, help="weights of surfaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    outcome = asyncio.run(run(chosen))
    if chosen.json:
        print(json.dumps(asdict(outcome), indent=1))
    else:
        console = wide_console(140)
        console.print(table(outcome))
        for line in said(outcome):
            console.print(line)
    sys.exit(bool(outcome.broken))


if __name__ == "__main__":
    main()
