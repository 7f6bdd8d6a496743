"""What a call costs each trained model, and what each measure gains: ``make bench-models``.

CPU ms of the model's process, user and system, for a Retrieve of 200, a Score of 200 candidates,
both about one user (as a page asks), and a query's embedding, with 8 callers. ``served``: a
process of its own behind the gRPC server of a replica; the callers' CPU is not in it. ``in
process``: as in the orchestrator, without gRPC. One thread a process, as Ray gives a replica.
Settings of a model take turns, so that a busy machine is busy for all; the best turn counts.
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
from rich.console import Console
from rich.table import Table

from benchmarks.model_calls import KINDS, SEARCH, Asked, Page, ask
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.home import Home

MEASURES: dict[str, list[str]] = {
    "cf": ["recent", "best-rows"],
    "behavioral": ["recent", "numpy", "best-rows"],
    "network": ["recent"],
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


class Replica:
    """A model with some of its measures taken away, in a process of its own."""

    def __init__(self, model: str, without: str) -> None:
        self.model, self.without = model, without
        taken = MEASURES[model] if without == ALL else [without] if without else []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.model_replica", model),
                *(word for measure in taken for word in ("--without", measure)),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = json.loads(self._answer())
        self._address, self.rss_mb = said["address"], said["rss_mb"]
        self.here: dict[str, float] = {}
        self.there: dict[str, float] = {}

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _cpu_s(self, line: str = "") -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def turn(self, kind: str, asked: Asked, pages: int) -> None:
        """Asks inside, then over gRPC; the best so far of each stays."""
        here_ms = 1e3 * self._cpu_s(f"{kind} {pages}") / pages
        before_s = self._cpu_s()
        asyncio.run(self._served(asked.pages(kind, pages)))
        there_ms = 1e3 * (self._cpu_s() - before_s) / pages
        self.here[kind] = min(here_ms, self.here.get(kind, here_ms))
        self.there[kind] = min(there_ms, self.there.get(kind, there_ms))

    async def _served(self, pages: list[Page]) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:

            async def call(method: str, request: Any) -> Any:
                path = f"/recmesh.v1.ModelService/{method.title()}"
                unary = channel.unary_unary(path)
                return await unary(request.SerializeToString(), timeout=60)

            await ask(call, pages)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def measured(model: str, pages: int, turns: int, asked: Asked) -> list[Row]:
    """One model, with each measure taken away in turn."""
    one_by_one = MEASURES[model] if len(MEASURES[model]) > 1 else []
    replicas: list[Replica] = []
    try:
        replicas.extend(Replica(model, without) for without in ("", *one_by_one, ALL))
        kinds = (*KINDS, SEARCH) if model == EMBEDDER else KINDS
        for _ in range(turns):
            for kind in kinds:
                for replica in replicas:
                    replica.turn(kind, asked, pages)
    finally:
        for replica in replicas:
            replica.close()
    return [Row(r.model, r.without, r.rss_mb, r.here, r.there) for r in replicas]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200, help="asked in a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--models", nargs="+", choices=[*MEASURES], default=[*MEASURES])
    arguments = parser.parse_args()
    console = Console(stderr=True)
    home = Home.from_environment()
    asked = Asked(home.dataset, side=0)
    rows: list[Row] = []
    for model in arguments.models:
        if not ArtifactStore(home.artifacts).has_live(model):
            console.print(f"{model} left out: run `recmesh train {model}` first")
            continue
        with console.status(model):
            rows += measured(model, arguments.pages, arguments.turns, asked)
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
    print(json.dumps({"histories": sorted(asked.histories), "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
