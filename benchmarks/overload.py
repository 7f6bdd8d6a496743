"""Asks a running mesh for three times what it can answer, and says who was answered.

    recmesh up --detach
    python -m benchmarks.overload
    python -m benchmarks.overload --times 5 --critical 0.3

First the rate is raised until goodput no longer grows: the peak. Then so many times as much is
asked for, a part of it as critical, the rest half as normal and half as batch, by callers who do
not try again; then half of the peak, second by second, until pages come as before. Ends with 1 when
goodput falls below nine tenths of the peak, when more than a thousandth of critical requests fails,
or when recovery takes more than 5 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.asked_mesh import AskedMesh, lasting_from
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
    by_priority: dict[str, dict[str, int]]
    """Requests by code."""
    p99_ms: dict[str, float | None]
    lag_ms: float
    """How late the generator itself was, 99th percentile."""
    recovered_s: float | None
    broken: list[str]


def _quiet(*_: Any) -> None:
    pass


class Overload:
    """One mesh, asked by callers of every priority."""

    def __init__(self, runs: dict[Priority, LoadRun]) -> None:
        self._runs = runs

    async def peak(self, first_per_s: float, say: Any) -> float:
        """Raises the rate until goodput has stopped to grow twice."""
        best, worse, rate = 0.0, 0, first_per_s
        for _ in range(GIVE_UP_ROWS):
            (row,) = await self._runs[Priority.NORMAL].profile([Segment(rate, SECONDS)], "", _quiet)
            good = row.total.goodput_per_s
            say(f"{rate:.0f}/s asked: {good:.0f}/s within the deadline")
            worse = 0 if good > best else worse + 1
            best = max(best, good)
            if worse == 2:
                break
            rate *= GROWTH
            await asyncio.sleep(1.0)
        return best

    async def ask(self, rates: dict[Priority, float], seconds: float) -> dict[Priority, LoadRow]:
        """All priorities at once."""
        rows = await asyncio.gather(
            *(
                self._runs[priority].profile([Segment(rate, seconds)], "", _quiet)
                for priority, rate in rates.items()
            )
        )
        return {priority: found[0] for priority, found in zip(rates, rows, strict=True)}

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
        peak = await overload.peak(chosen.first, say)
        critical = chosen.critical * peak
        others = (chosen.times * peak - critical) / 2
        rates = dict(zip(Priority, (critical, others, others), strict=True))
        await asyncio.sleep(2.0)
        rows = await overload.ask(rates, chosen.seconds)
        recovered_s = await overload.recovery(peak / 2)
    return judged(peak, rows, recovered_s)


def judged(peak: float, rows: dict[Priority, LoadRow], recovered_s: float | None) -> Outcome:
    """Holds what was measured against the limits."""
    goodput = sum(row.total.goodput_per_s for row in rows.values())
    critical = rows[Priority.CRITICAL].total
    failed = 1 - critical.codes.get("OK", 0) / critical.requests
    broken = []
    if goodput < LEAST_GOODPUT * peak:
        broken.append(f"goodput {goodput / peak:.0%} of the peak, at least {LEAST_GOODPUT:.0%}")
    if failed > MOST_CRITICAL_FAILED:
        broken.append(f"{failed:.2%} of critical failed, at most {MOST_CRITICAL_FAILED:.1%}")
    if recovered_s is None or recovered_s > MOST_RECOVERY_S:
        broken.append(f"recovered after {recovered_s} s, at most {MOST_RECOVERY_S}")
    return Outcome(
        peak_per_s=peak,
        asked_per_s=sum(row.offered_per_s for row in rows.values()),
        goodput_per_s=goodput,
        by_priority={p.name.lower(): dict(row.total.codes) for p, row in rows.items()},
        p99_ms={p.name.lower(): row.total.p99_ms for p, row in rows.items()},
        lag_ms=max(row.lag_p99_ms for row in rows.values()),
        recovered_s=recovered_s,
        broken=broken,
    )


def table(outcome: Outcome) -> Table:
    """A line a priority."""
    share = outcome.goodput_per_s / outcome.peak_per_s
    title = (
        f"peak {outcome.peak_per_s:.0f}/s; asked {outcome.asked_per_s:.0f}/s, answered in time "
        f"{outcome.goodput_per_s:.0f}/s ({share:.0%}); as before after {outcome.recovered_s} s; "
        f"generator {outcome.lag_ms:.0f} ms late"
    )
    made = Table(title=title, title_justify="left")
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
    """Limits that do not hold."""
    return [f"broken: {line}" for line in outcome.broken] or ["all limits hold"]


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
        console = Console()
        if not console.is_terminal:
            console.width = 140
        console.print(table(outcome))
        for line in said(outcome):
            console.print(line)
    sys.exit(bool(outcome.broken))


if __name__ == "__main__":
    main()
