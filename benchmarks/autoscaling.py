"""Whether replicas follow the load on several nodes, and whether callers notice.

    python -m benchmarks.autoscaling                             a jump, and back
    python -m benchmarks.autoscaling --profile daily:12x420s     a day in seven minutes

Starts the mesh of ``RECMESH_HOME`` on a cluster of a head and two nodes, with one to three replicas
of every model, and a target so low that two cores bring them there. Replicas are counted by their
processes. Ends with 1 when a request fails, when no model gets more replicas or does not come back
to one, and when one turns around more often than the load does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks.asked_mesh import AskedMesh
from benchmarks.chaos import MODELS
from benchmarks.failed_calls import failed_calls, said_by_code
from benchmarks.several_nodes import SeveralNodes, mesh_on_nodes
from benchmarks.wide_console import wide_console
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.rate_profile import parse_profile
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX
from recmesh.cli.progress_bars import progress_bars
from recmesh.deployments.mesh_config import DEFAULT_CONFIG

LOOK_EVERY_S = 2.0
MOST_REPLICAS = 3
TARGET_INFLIGHT = 0.05


@dataclass(frozen=True)
class Part:
    """One rate of the profile."""

    rate_per_s: float
    requests: int
    failed: dict[str, int]
    """By code."""
    p99_ms: float | None
    replicas: dict[str, list[int]]
    """Of every model, as they were seen one after another."""


def configuration(folder: Path) -> Path:
    """The mesh's own, with models that scale."""
    scaled = "".join(
        f"\n[models.{model}]\nmin_replicas = 1\nmax_replicas = {MOST_REPLICAS}\n"
        f"target_inflight = {TARGET_INFLIGHT}\n"
        for model in MODELS
    )
    lines = DEFAULT_CONFIG.read_text().split("\n[models.")[0]
    file = folder / "mesh.toml"
    file.write_text(lines + scaled)
    return file


async def watched(cluster: SeveralNodes, looks: list[tuple[float, dict[str, int]]]) -> None:
    """Counts replicas until cancelled; seconds of the loop's clock."""
    loop = asyncio.get_running_loop()
    while True:
        counts = await asyncio.to_thread(
            lambda: {model: cluster.replicas(f"model-{model}:") for model in MODELS}
        )
        looks.append((loop.time(), counts))
        await asyncio.sleep(LOOK_EVERY_S)


async def run(chosen: argparse.Namespace, cluster: SeveralNodes) -> list[Part]:
    """The whole profile."""
    asked = AskedMesh.running(chosen.mix)
    segments = parse_profile(chosen.profile)
    looks: list[tuple[float, dict[str, int]]] = []
    async with asked.loaded(deadline_s=chosen.deadline_s, seed=chosen.seed) as load:
        watching = asyncio.create_task(watched(cluster, looks))
        with progress_bars(chosen.json) as bars:
            task = bars.add_task(chosen.profile, total=None)

            def progress(done_s: float, total_s: float, said: str) -> None:
                bars.update(task, completed=done_s, total=total_s, description=said)

            begun_s = asyncio.get_running_loop().time()
            rows = await load.profile(segments, chosen.profile, progress)
        watching.cancel()
    return parts(rows, looks, begun_s)


def parts(
    rows: Sequence[LoadRow], looks: Sequence[tuple[float, dict[str, int]]], begun_s: float
) -> list[Part]:
    """Every row with the replicas that were seen in its time."""
    found, ends_s = [], begun_s
    for row in rows:
        starts_s, ends_s = ends_s, ends_s + row.seconds
        seen = [counts for at_s, counts in looks if starts_s <= at_s < ends_s]
        found.append(
            Part(
                rate_per_s=row.rate_per_s,
                requests=row.total.requests,
                failed=dict(failed_calls([row])),
                p99_ms=row.total.p99_ms,
                replicas={model: [counts[model] for counts in seen] for model in MODELS},
            )
        )
    return found


def turns(values: Sequence[float]) -> int:
    """How often a rise is followed by a fall, or a fall by a rise."""
    steps = [second - first for first, second in pairwise(values) if second != first]
    return sum((first > 0) != (second > 0) for first, second in pairwise(steps))


def broken(found: Sequence[Part]) -> list[str]:
    """What does not hold."""
    failed = sum(sum(part.failed.values()) for part in found)
    said = [f"{failed} requests failed"] if failed else []
    most_turns = turns([part.rate_per_s for part in found])
    grown = []
    for model in MODELS:
        seen = [count for part in found for count in part.replicas[model]]
        grown.append(max(seen) > 1)
        if seen[-1] > 1:
            said.append(f"{model} has {seen[-1]} replicas in the end")
        if turns(seen) > most_turns:
            said.append(f"{model} turned around {turns(seen)} times, the load {most_turns}")
    return said if any(grown) else [*said, "no model got more replicas"]


def table(found: Sequence[Part]) -> Table:
    """A line a rate."""
    made = Table(title="replicas: fewest to most, and in the end", title_justify="left")
    for column in ("requests/s", "requests", "failed", "p99, ms", *MODELS):
        made.add_column(column, justify="right")
    for part in found:
        cells = [
            f"{min(seen)}-{max(seen)}, {seen[-1]}" if seen else ""
            for seen in part.replicas.values()
        ]
        made.add_row(
            f"{part.rate_per_s:.1f}",
            f"{part.requests:,}",
            said_by_code(part.failed),
            "none" if part.p99_ms is None else f"{part.p99_ms:.0f}",
            *cells,
        )
    return made


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="step:2,2,12,12,2,2,2,2x30s", help="as recmesh load's")
    parser.add_argument("--deadline-s", type=float, default=1.0)
    parser.add_argument("--mix", default=DEFAULT_MIX, help="weights of surfaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        mesh_on_nodes(2, configuration(Path(folder))) as cluster,
    ):
        found = asyncio.run(run(chosen, cluster))
    said = broken(found)
    if chosen.json:
        print(json.dumps({"parts": [asdict(part) for part in found], "broken": said}, indent=1))
    else:
        console = wide_console(140)
        console.print(table(found))
        for line in said or ["replicas followed, and no request failed"]:
            console.print(line)
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
