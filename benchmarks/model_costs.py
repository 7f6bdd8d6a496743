"""What a call costs each trained model, and what each measure gains: ``make bench-models``.

CPU ms of the model's process, user and system, for a Retrieve of 200, a Score of 200 candidates,
both about one user (as a page asks), and a query's embedding, with 8 callers. ``served``: a
process of its own behind the gRPC server of a replica; the callers' CPU is not in it. ``in
process``: as in the orchestrator, without gRPC. One thread a process, as Ray gives a replica.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import grpc.aio
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.model_calls import KINDS, SEARCH, Asked, cpu_ms
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.home import Home

MEASURES: dict[str, list[str]] = {
    "cf": ["recent", "best-rows"],
    "behavioral": ["recent", "numpy", "best-rows"],
    "network": ["recent", "best-rows"],
    "nlp": ["together"],
}
"""Those that a model has; see :mod:`benchmarks.model_replica`."""
ALL = "all"


@dataclass(frozen=True)
class Row:
    """One model with some of its measures taken away."""

    model: str
    without: str
    rss_mb: float
    in_process_cpu_ms: dict[str, float]
    served_cpu_ms: dict[str, float]


async def served(address: str, process: psutil.Process, kinds: list[str], pages: int) -> Any:
    """CPU ms of the server by what it is asked."""
    asked = Asked(Home.from_environment().dataset)
    async with grpc.aio.insecure_channel(address) as channel:
        calls = {
            method: channel.unary_unary(f"/recmesh.v1.ModelService/{method.title()}")
            for method in ("retrieve", "score", "embed")
        }

        async def call(method: str, request: Any) -> Any:
            return await calls[method](request.SerializeToString(), timeout=60)

        return {kind: await cpu_ms(call, asked, kind, pages, process) for kind in kinds}


def measured(model: str, without: str, pages: int) -> Row:
    """One setting in a new process."""
    taken = MEASURES[model] if without == ALL else [without] if without else []
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.model_replica", model, "--pages", str(pages)),
            *(word for measure in taken for word in ("--without", measure)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        here = said["in_process"]
        there = asyncio.run(served(said["address"], psutil.Process(process.pid), list(here), pages))
    finally:
        process.stdin.close()
        process.wait(30)
    return Row(model, without, said["rss_mb"], here, there)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=2000, help="asked for each figure")
    parser.add_argument("--models", nargs="+", choices=[*MEASURES], default=[*MEASURES])
    arguments = parser.parse_args()
    console = Console(stderr=True)
    home = Home.from_environment()
    rows: list[Row] = []
    for model in arguments.models:
        if not ArtifactStore(home.artifacts).has_live(model):
            console.print(f"{model} left out: run `recmesh train {model}` first")
            continue
        one_by_one = MEASURES[model] if len(MEASURES[model]) > 1 else []
        for without in ("", *one_by_one, ALL):
            with console.status(f"{model}, without {without or 'nothing'}"):
                rows.append(measured(model, without, arguments.pages))
    histories = sorted(Asked(home.dataset).histories)
    table = Table("model", "without", "RSS MB", title="CPU ms: in process / served")
    for kind in (*KINDS, SEARCH):
        table.add_column(kind, justify="right")
    for row in rows:
        cells = [
            f"{row.in_process_cpu_ms[kind]:.2f} / {row.served_cpu_ms[kind]:.2f}"
            if kind in row.served_cpu_ms
            else ""
            for kind in (*KINDS, SEARCH)
        ]
        table.add_row(row.model, row.without, f"{row.rss_mb:.0f}", *cells)
    Console(width=110, stderr=True).print(table)
    print(json.dumps({"histories": histories, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
