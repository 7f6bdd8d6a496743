"""Measures arrangements of the same four models side by side: ``make bench``.

CPU per request is that of the arrangement's whole process tree (Ray, Serve, Envoy, Milvus,
supervision), user and system, over the time of the run; the load generator's is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.failed_calls import said_by_code
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home

START_TIMEOUT_S = 180.0
WARM_UP_S = 4.0
USERS = 64
PARTS_AT = 8


@dataclass(frozen=True)
class Row:
    """One arrangement at one number of callers."""

    models: str
    arrangement: str
    callers: int
    cpu_ms_per_request: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failures: dict[str, int]
    degraded_share: float
    cpu_ms_by_part: dict[str, float]


PARTS: dict[str, str] = {
    "ray::ServeReplica:orchestrator": "orchestrator",
    "ray::ServeReplica:default:orchestrator": "orchestrator",
    "ray::ServeReplica:catalog": "writer",
    "ray::ServeReplica": "models",
    "bootstrap.json": "Envoy",
    "milvus": "Milvus",
    "ray::ProxyActor": "Serve's proxy",
    "one-process": "orchestrator",
}
"""What a process belongs to, by what its command line contains; the first that fits."""


ARRANGEMENTS: dict[str, list[str]] = {
    "separate replicas, through Envoy": ["separate"],
    "separate replicas, no Envoy": ["separate", "--no-edge"],
    "co-located, through Envoy": ["colocated"],
    "co-located, no Envoy": ["colocated", "--no-edge"],
    "Serve handles, default flags": ["handles"],
    "one grpc.aio process": ["one-process"],
}


@contextlib.contextmanager
def serving(arguments: list[str], home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """An arrangement that serves, and the process at the root of its tree."""
    environment = {**os.environ, "RECMESH_HOME": str(home)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.arrangement", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            for line in process.stdout:
                if line.startswith('{"address"'):
                    break
            else:
                errors.seek(0)
                raise SystemExit(errors.read().decode(errors="replace")[-3000:])
            yield json.loads(line)["address"], psutil.Process(process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def part_of(process: psutil.Process) -> str:
    """Which part of the arrangement a process is."""
    command = " ".join(process.cmdline())
    return next((part for text, part in PARTS.items() if text in command), "Ray, supervision")


def cpu_s(root: psutil.Process) -> dict[tuple[int, str], float]:
    """CPU seconds so far of every process of a tree, by process id and part."""
    spent: dict[tuple[int, str], float] = {}
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[process.pid, part_of(process)] = times.user + times.system
    return spent


def load(address: str, callers: int, seconds: float, users: list[str], application: str) -> dict:
    """Runs the load generator."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.load_generator", address),
            *("--callers", str(callers), "--seconds", str(seconds)),
            *("--users", ",".join(users), "--application", application),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def measure(
    label: str, real: bool, home: Path, users: list[str], seconds: float, console: Console
) -> list[Row]:
    """One arrangement at 1, 8 and 32 callers."""
    arguments = ARRANGEMENTS[label] + (["--real"] if real else [])
    application = "default" if arguments[0] == "handles" else ""
    rows = []
    with console.status(f"{label}: starting"), serving(arguments, home) as (address, root):
        load(address, 8, WARM_UP_S, users, application)
        for callers in (1, 8, 32):
            before = cpu_s(root)
            seen = load(address, callers, seconds, users, application)
            after = cpu_s(root)
            by_part: dict[str, float] = {}
            for (pid, part), spent_s in after.items():
                ms = 1e3 * (spent_s - before.get((pid, part), 0.0)) / max(seen["requests"], 1)
                by_part[part] = by_part.get(part, 0.0) + ms
            rows.append(
                Row(
                    models="real" if real else "trivial",
                    arrangement=label,
                    callers=callers,
                    cpu_ms_per_request=sum(by_part.values()),
                    requests_per_s=seen["requests"] / seen["elapsed_s"],
                    p50_ms=seen["p50_ms"],
                    p99_ms=seen["p99_ms"],
                    failures=seen["failures"],
                    degraded_share=seen["degraded"] / max(seen["requests"], 1),
                    cpu_ms_by_part=by_part,
                )
            )
    return rows


def trivial_home(folder: Path) -> Path:
    """A small world to answer from, made in seconds."""
    home = folder / "home"
    recmesh = [sys.executable, "-m", "recmesh.cli.main"]
    world = str(folder / "world")
    small = ["--doctors", "200", "--items", "1000", "--days", "20"]
    environment = {**os.environ, "RECMESH_HOME": str(home)}
    for command in (["world", "generate", "--out", world, *small], ["ingest", world]):
        subprocess.run([*recmesh, *command], check=True, env=environment, capture_output=True)
    return home


def print_rows(kind: str, rows: list[Row]) -> None:
    """The measurements, and at 8 callers where the CPU time goes."""
    if not rows:
        return
    table = Table(
        "arrangement", "callers", "CPU ms", "requests/s", "p50 ms", "p99 ms", "failed",
        "degraded",
        title=f"{kind} models",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.arrangement,
            str(row.callers),
            f"{row.cpu_ms_per_request:.1f}",
            f"{row.requests_per_s:.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            said_by_code(row.failures),
            f"{100 * row.degraded_share:.0f} %",
        )
    parts = sorted({part for row in rows for part in row.cpu_ms_by_part})
    shares = Table("arrangement", *parts, title=f"{kind} models, CPU ms per request by part")
    for row in rows:
        if row.callers == PARTS_AT:
            values = (row.cpu_ms_by_part.get(part) for part in parts)
            shares.add_row(row.arrangement, *("" if v is None else f"{v:.2f}" for v in values))
    console = Console(width=110)
    console.print(table, shares)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load per measurement")
    parser.add_argument("--only", help="part of an arrangement's name")
    parser.add_argument("--models", choices=["trivial", "real", "both"], default="both")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="recmesh-bench-") as folder:
        kinds = []
        if arguments.models != "real":
            kinds.append((False, trivial_home(Path(folder))))
        trained = Home.from_environment().root
        if arguments.models != "trivial":
            if (trained / "vectors" / "live.json").is_file():
                kinds.append((True, trained))
            else:
                console.print(f"no trained models in {trained}: run `make run` first")
        for real, home in kinds:
            users = Dataset.open(home / "dataset").users["user_id"].slice(0, USERS).to_pylist()
            for label in ARRANGEMENTS:
                if arguments.only and arguments.only not in label:
                    continue
                started_s = time.monotonic()
                rows += measure(label, real, home, users, arguments.seconds, console)
                console.print(f"{label}: {time.monotonic() - started_s:.0f} s", style="dim")
    for kind in ("trivial", "real"):
        print_rows(kind, [row for row in rows if row.models == kind])
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
