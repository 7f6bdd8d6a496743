"""How many replicas, pods and CPUs a load needs, from CPU milliseconds a page.

    python -m benchmarks.capacity                          10, 1,000 and 100,000 pages a second
    python -m benchmarks.capacity --rps 250 --utilisation 0.5
    python -m benchmarks.capacity --measured FILE.json     of `make bench BENCH="--out FILE.json"`
    python -m benchmarks.capacity --json

For every part::

    busy CPUs = pages a second × CPU ms a page / 1000
    replicas  = ⌈busy CPUs / (CPUs that a replica can keep busy × utilisation)⌉ + spare
    pods      = ⌈replicas × those CPUs / CPUs of a pod⌉, and at least two

A replica is one process with one event loop: it cannot keep more than one CPU busy; an Envoy of two
worker threads two. A mesh has one writer, which is replaced and not doubled: more load than it
takes is for several meshes, each with its own doctors. Utilisation leaves room for bursts: at 0.6,
calls that come at random wait on average for 1.5 others, u / (1 - u). The spare replica is the one
that may be lost. The load is a peak, not a day's mean.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

LOADS_RPS = (10.0, 1_000.0, 100_000.0)
UTILISATION = 0.6
POD_CPUS = 4
LEAST_PODS = 2
ARRANGEMENT = "separate replicas, through Envoy"
CALLERS = 8
CPUS = {"Envoy": 2.0, "orchestrator": 1.0, "models": 1.0, "Milvus": 4.0}
"""That one of it can keep busy. What is not named is on every node, without replicas."""
ONE_A_MESH = frozenset({"writer"})
"""Parts that a mesh has one of: more load than it takes needs more meshes."""
MEASURED_MS: Mapping[str, float] = {
    "Envoy": 0.71,
    "orchestrator": 21.28,
    "models": 14.55,
    "writer": 0.88,
    "Milvus": 2.63,
    "Ray, supervision": 4.25,
}
"""CPU ms a page by part, trained models: docs/capacity.md says by which command."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a load needs of one part."""

    rps: float
    part: str
    busy_cpus: float
    replicas: int
    """Of every application of the part; 0: it has none of its own."""
    applications: int
    """Of a part that a mesh has one of: meshes."""
    pods: int


def needs(
    ms_by_part: Mapping[str, float],
    rps: float,
    *,
    models: int = 4,
    utilisation: float = UTILISATION,
    spare: int = 1,
) -> list[Need]:
    """What each part needs for ``rps`` pages a second.

    Args:
        ms_by_part: CPU ms a page, over all processes of a part.
        rps: above 0.
        models: how many share what models cost, evenly.
        utilisation: of a replica's CPUs, above 0 and at most 1.
        spare: replicas that may be lost, of every application.
    """
    found = []
    for part, ms in ms_by_part.items():
        busy = rps * ms / 1000
        cpus = CPUS.get(part, 0.0)
        applications = models if part == "models" else 1
        replicas = pods = 0
        if part in ONE_A_MESH:
            applications = pods = max(1, math.ceil(busy / utilisation))
            replicas = 1
        elif cpus:
            replicas = math.ceil(busy / applications / (cpus * utilisation)) + spare
            pods = max(LEAST_PODS, math.ceil(applications * replicas * cpus / POD_CPUS))
        found.append(Need(rps, part, busy, replicas, applications, pods))
    return found


def read_measured(file: Path) -> dict[str, float]:
    """CPU ms by part, of the file that ``--out`` of ``make bench`` wrote. Exits without one."""
    for row in json.loads(file.read_text()):
        if (row["arrangement"], row["callers"], row["models"]) == (ARRANGEMENT, CALLERS, "real"):
            found: dict[str, float] = row["cpu_ms_by_part"]
            return found
    sys.exit(f"{file} has no row of {ARRANGEMENT!r}, real models, {CALLERS} callers")


def _print(found: Sequence[Need]) -> None:
    table = Table("pages/s", "part", "busy CPUs", "replicas", "pods")
    for need in found:
        each = f"{need.applications} × {need.replicas}" if need.applications > 1 else need.replicas
        shown = (f"{each}", f"{need.pods:,}") if need.replicas else ("on every node", "")
        table.add_row(f"{need.rps:,.0f}", need.part, f"{need.busy_cpus:,.1f}", *shown)
    console = Console()
    console.print(table)
    for rps in dict.fromkeys(need.rps for need in found):
        these = [need for need in found if need.rps == rps]
        busy = sum(need.busy_cpus for need in these)
        pods = sum(need.pods for need in these)
        console.print(
            f"{rps:,.0f} pages/s: {busy:,.1f} CPUs busy, {pods:,} pods of {POD_CPUS} CPUs",
            highlight=False,
        )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rps", type=float, nargs="+", default=LOADS_RPS, help="pages a second")
    parser.add_argument("--utilisation", type=float, default=UTILISATION, help="of a replica")
    parser.add_argument("--spare", type=int, default=1, help="replicas that may be lost")
    parser.add_argument("--models", type=int, default=4, help="that share what models cost")
    parser.add_argument("--measured", type=Path, help="of make bench, instead of ours")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if not 0 < arguments.utilisation <= 1:
        parser.error(f"--utilisation {arguments.utilisation:g} is not in (0, 1]")
    if min(arguments.rps) <= 0:
        parser.error(f"--rps {min(arguments.rps):g} is not above 0")
    ms_by_part = read_measured(arguments.measured) if arguments.measured else MEASURED_MS
    found = [
        need
        for rps in arguments.rps
        for need in needs(
            ms_by_part,
            rps,
            models=arguments.models,
            utilisation=arguments.utilisation,
            spare=arguments.spare,
        )
    ]
    if arguments.json:
        print(json.dumps([asdict(need) for need in found]))
    else:
        _print(found)


if __name__ == "__main__":
    main()
