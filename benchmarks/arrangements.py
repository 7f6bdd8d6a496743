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

from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home

START_TIMEOUT_S = 180.0
WARM_UP_S = 4.0
USERS = 64


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


def cpu_s(root: psutil.Process) -> dict[int, float]:
    """CPU seconds so far of every process of a tree, by process id."""
    spent: dict[int, float] = {}
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[process.pid] = times.user + times.system
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
            spent_s = sum(s - before.get(pid, 0.0) for pid, s in after.items())
            rows.append(
                Row(
                    models="real" if real else "trivial",
                    arrangement=label,
                    callers=callers,
                    cpu_ms_per_request=1e3 * spent_s / max(seen["requests"], 1),
                    requests_per_s=seen["requests"] / seen["elapsed_s"],
                    p50_ms=seen["p50_ms"],
                    p99_ms=seen["p99_ms"],
                    failures=seen["failures"],
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
        table = Table(
            "arrangement", "callers", "CPU ms", "requests/s", "p50 ms", "p99 ms", "failed",
            title=f"{kind} models",
        )  # fmt: skip
        for row in rows:
            if row.models == kind:
                table.add_row(
                    row.arrangement,
                    str(row.callers),
                    f"{row.cpu_ms_per_request:.1f}",
                    f"{row.requests_per_s:.0f}",
                    f"{row.p50_ms:.1f}",
                    f"{row.p99_ms:.1f}",
                    ", ".join(f"{n} {code}" for code, n in row.failures.items()) or "0",
                )
        if table.row_count:
            Console().print(table)
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
