"""Breaks each part of a running mesh in turn, under load, and says what callers saw of it.

    make chaos                        a mesh with two orchestrators and a PostgreSQL, and its end
    python -m benchmarks.chaos        asks the one that runs
    python -m benchmarks.chaos --only "cf paused" --rate 60 --json

Requests start at random times, whether or not earlier ones are answered, and are not tried again by
the caller; latency counts from when they were to start. Each fault comes after a while without one
and goes on for a while; then everything is whole again once a second's pages all came and lack
nothing. The order of faults is shuffled by the seed. Ends with 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from rich.table import Table

from benchmarks.asked_mesh import AskedMesh, lasting_from
from benchmarks.chaos_faults import (
    DiskFull,
    Down,
    Fault,
    Killed,
    MeshProcesses,
    Paused,
    Poisoned,
    ServerPaused,
    ServerStopped,
    Slowed,
)
from benchmarks.failed_calls import failed_calls, said_by_code
from benchmarks.postgresql_server import PostgresqlServer
from benchmarks.wide_console import wide_console
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.load_run import LoadRun
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX
from recmesh.cli.progress_bars import progress_bars
from recmesh.deployments.mesh_config import DEFAULT_CONFIG, MeshConfig
from recmesh.storage.home import Home

MODELS = ("cf", "behavioral", "nlp", "network")
CONTROLLER, WRITER, BOOK = "ray::ServeController", "ray::ServeReplica:catalog:", "ray::AddressBook"
ORCHESTRATOR, MILVUS, ENVOY = "ray::ServeReplica:orchestrator:", "milvus.db", "bootstrap.json"
DEADLINE_S = 0.5
LEAD_S = 1.0
"""Before a fault: who asks in it may still wait when the fault begins, and so suffers it."""
LATE_MS = 10.0
"""How long after the deadline an answer may come on an idle machine."""
FAILED_AT_N_PLUS_1 = 0.001


@dataclass(frozen=True)
class Case:
    """A fault, and how much of it callers may notice."""

    fault: Fault
    most_failed: float
    """Share of the requests of its time that may fail."""
    least_during_s: float = 0.0
    least_after_s: int = 0


@dataclass(frozen=True)
class Seen:
    """What callers saw."""

    case: str
    requests: int
    failed: dict[str, int]
    """By code, from a second before the fault on."""
    degraded_share: float
    """Of the pages while it lasted."""
    p99_before_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    whole_after_s: float | None
    """From the fault's end; None: not within the time."""
    broken: list[str]
    """Limits that do not hold."""


def replica(model: str) -> str:
    """Title of a model's replicas."""
    return f"ray::ServeReplica:model-{model}:"


def matrix(home: Home) -> list[Case]:
    """Every part, and what may happen to it; PostgreSQL where the mesh has one of this machine."""
    cases: list[Case] = []
    for model in MODELS:
        cases += [Case(kind(model, replica(model)), 0.0) for kind in (Killed, Paused, Slowed)]
    # An owner's deployment and rollback take their time.
    cases.append(Case(Poisoned("cf", home), 0.0, least_during_s=40.0, least_after_s=40))
    for part, title in (("milvus", MILVUS), ("writer", WRITER)):
        cases += [Case(Killed(part, title), 0.0), Case(Paused(part, title), 0.0)]
    cases += [
        Case(DiskFull("writer", WRITER), 0.0),
        Case(Killed("Serve controller", CONTROLLER), 0.0),
        Case(Killed("address book", BOOK), 0.0),
        Case(Killed("one of two orchestrators", ORCHESTRATOR, most=1), FAILED_AT_N_PLUS_1),
        Case(Paused("one of two orchestrators", ORCHESTRATOR, most=1), 1.0),
        Case(Killed("edge", ENVOY), 1.0),
        Case(Down("three models and Milvus", *map(replica, MODELS[:3]), MILVUS), 0.0),
    ]
    server = PostgresqlServer.of(MeshConfig.load(DEFAULT_CONFIG, home).database.uri)
    if server is not None:
        cases += [Case(ServerStopped(server), 0.0), Case(ServerPaused(server), 0.0)]
    return cases


async def suffer(case: Case, run: LoadRun, mesh: MeshProcesses, chosen: argparse.Namespace) -> Seen:
    """One fault: before, during, after."""
    during_s = max(chosen.during, case.least_during_s)
    before, lead = Segment(chosen.rate, chosen.before), Segment(chosen.rate, LEAD_S)
    during = Segment(chosen.rate, during_s)
    after = [Segment(chosen.rate, 1.0)] * max(chosen.after, case.least_after_s)

    async def strike() -> None:
        await asyncio.sleep(chosen.before + LEAD_S)
        ends_s = asyncio.get_running_loop().time() + during_s
        with ExitStack() as fault:
            await asyncio.to_thread(fault.enter_context, case.fault.happening(mesh))
            try:
                await asyncio.sleep(ends_s - asyncio.get_running_loop().time())
            finally:
                await asyncio.to_thread(fault.close)

    with progress_bars(chosen.json) as bars:
        task = bars.add_task(case.fault.title, total=None)

        def progress(done_s: float, total_s: float, said: str) -> None:
            bars.update(task, completed=done_s, total=total_s, description=said)

        striking = asyncio.create_task(strike())
        rows = await run.profile([before, lead, during, *after], case.fault.title, progress)
        await striking
    return judged(case, rows)


def judged(case: Case, rows: Sequence[LoadRow]) -> Seen:
    """Holds what was measured against the case's limits."""
    first, lead, second, *rest = rows
    whole = [not failed_calls([row]) and row.total.degraded_share == 0.0 for row in rest]
    after = lasting_from(whole)
    hit = [lead, second, *rest]
    failed, requests = failed_calls(hit), sum(row.total.requests for row in hit)
    broken = []
    if sum(failed.values()) > case.most_failed * second.total.requests:
        broken.append(f"{sum(failed.values())} failed, at most {case.most_failed:.1%}")
    if after is None:
        broken.append(f"not whole after {len(rest)} s")
    limit_ms = second.deadline_ms + LATE_MS
    if case.most_failed < 1.0 and (second.total.p99_ms is None or second.total.p99_ms > limit_ms):
        broken.append(f"p99 above {limit_ms:.0f} ms")
    if failed_calls([first]) or first.total.degraded_share:
        broken.append("not whole before the fault")
    return Seen(
        case=case.fault.title,
        requests=requests,
        failed=dict(failed),
        degraded_share=second.total.degraded_share,
        p99_before_ms=first.total.p99_ms,
        p50_ms=second.total.p50_ms,
        p99_ms=second.total.p99_ms,
        whole_after_s=None if after is None else float(after),
        broken=broken,
    )


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f}"


def table(seen: Sequence[Seen]) -> Table:
    """A line a fault."""
    made = Table(title="what callers saw", title_justify="left")
    for column in ("fault", "requests", "failed", "degraded", "p99 before", "p50", "p99, ms"):
        made.add_column(column, justify="left" if column == "fault" else "right")
    made.add_column("whole after", justify="right")
    made.add_column("limits")
    for one in seen:
        failed = said_by_code(one.failed)
        made.add_row(
            one.case,
            f"{one.requests:,}",
            failed,
            f"{one.degraded_share:.0%}",
            *map(_ms, (one.p99_before_ms, one.p50_ms, one.p99_ms)),
            "never" if one.whole_after_s is None else f"{one.whole_after_s:.0f} s",
            "; ".join(one.broken) or "hold",
        )
    return made


async def run(chosen: argparse.Namespace, known: Sequence[Case]) -> list[Seen]:
    """All faults that were chosen, one after another."""
    asked = AskedMesh.running(chosen.mix)
    mesh = MeshProcesses(asked.pid)
    cases = [case for case in known if not chosen.only or case.fault.title in chosen.only]
    random.Random(chosen.seed).shuffle(cases)
    if not cases:
        raise SystemExit("\n  ".join(["no such fault; there are", *(c.fault.title for c in known)]))
    seen: list[Seen] = []
    for case in cases:
        # Connections of its own: an edge that was killed is not the next fault's.
        async with asked.loaded(deadline_s=DEADLINE_S, seed=chosen.seed) as load:
            seen.append(await suffer(case, load, mesh, chosen))
    return seen


def options(about: str | None) -> argparse.ArgumentParser:
    """What a run may be asked for."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--before", type=float, default=5.0, help="seconds without a fault")
    parser.add_argument("--during", type=float, default=10.0, help="seconds of a fault")
    parser.add_argument("--after", type=int, default=15, help="seconds to become whole")
    parser.add_argument("--mix", default=DEFAULT_MIX, help="weights of surfaces")
    parser.add_argument("--only", action="append", help="this fault; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


def show(seen: Sequence[Seen], *, as_json: bool) -> NoReturn:
    """Prints it, and ends with 1 where a limit is broken."""
    if as_json:
        said: list[dict[str, Any]] = [asdict(one) for one in seen]
        print(json.dumps(said, indent=1))
    else:
        console = wide_console(160)
        console.print(table(seen))
    sys.exit(any(one.broken for one in seen))


if __name__ == "__main__":
    asked_for = options(__doc__).parse_args()
    show(asyncio.run(run(asked_for, matrix(Home.from_environment()))), as_json=asked_for.json)
