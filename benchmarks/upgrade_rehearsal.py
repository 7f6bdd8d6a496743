"""Rolls out a new release, and a new version of a model, under load: did a caller notice?

    python -m benchmarks.upgrade_rehearsal
    python -m benchmarks.upgrade_rehearsal --rate 30 --model nlp --json

Starts the mesh of ``RECMESH_HOME`` with two orchestrators from a copy of this code, asks it at
random times, changes the copy as a release does and rolls out one part after another, then deploys
a version of the model that its owner has just published, and rolls that back. Ends with 1 when a
request fails or a page lacks anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from benchmarks.asked_mesh import AskedMesh
from benchmarks.failed_calls import failed_calls, said_by_code
from benchmarks.own_command import command
from benchmarks.wide_console import wide_console
from recmesh.cli.load_generation.load_run import LoadRun
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.home import Home

CODE = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", ".recmesh", "build", "*_cache", "__pycache__")
PARTS = ("catalog", "cf", "behavioral", "nlp", "network", "orchestrator")
CHANGED = "orchestrator/recommend.py"
SECOND_S = 1.0


@dataclass(frozen=True)
class Step:
    """What callers saw while one thing was done."""

    name: str
    seconds: float
    requests: int
    failed: dict[str, int]
    degraded: int
    p99_ms: float | None


class Release:
    """A copy of the code, which commands and replicas run."""

    def __init__(self, folder: Path) -> None:
        self._code = folder / "release"
        shutil.copytree(CODE, self._code, symlinks=True, ignore=LEFT_OUT)

    def change(self) -> None:
        """As the next release does."""
        with (self._code / CHANGED).open("a") as file:
            file.write("\n# The next release.\n")

    def command(self, *arguments: str) -> None:
        """One of ours; ends the run where it fails."""
        command(
            *arguments,
            cwd=self._code,
            PYTHONPATH=str(self._code / ".editable"),
            # Old and new replicas run side by side for a while.
            RECMESH_RAY__NUM_CPUS="8",
            RECMESH_ORCHESTRATOR__MIN_REPLICAS="2",
            RECMESH_ORCHESTRATOR__MAX_REPLICAS="2",
        )


def published(home: Home, model: str) -> str:
    """A version of the model that ranks nearly alike, as if its owner had trained it again."""
    store = ArtifactStore(home.artifacts)
    live = store.load(model, "")
    tensors = {
        name: values * values.dtype.type(1.01) if values.dtype.kind == "f" else values
        for name, values in live.tensors.items()
    }
    return store.publish(live.card, tensors, live.strings, live=False)


async def asked_during(load: LoadRun, rate: float, name: str, done: asyncio.Task[Any]) -> Step:
    """Asks, second by second, until it is done."""
    begun_s = time.monotonic()
    rows = []
    while not done.done():
        rows += await load.profile([Segment(rate, SECOND_S)], name, lambda *_: None)
    await done
    slowest = [row.total.p99_ms for row in rows]
    return Step(
        name=name,
        seconds=time.monotonic() - begun_s,
        requests=sum(row.total.requests for row in rows),
        failed=dict(failed_calls(rows)),
        degraded=sum(
            round(row.total.degraded_share * row.total.codes.get("OK", 0)) for row in rows
        ),
        p99_ms=None if None in slowest else max((ms for ms in slowest if ms), default=None),
    )


async def run(chosen: argparse.Namespace, release: Release) -> list[Step]:
    """Every step, under load."""
    asked = AskedMesh.running(chosen.mix)
    version = published(asked.home, chosen.model)
    steps: list[tuple[str, Sequence[str]]] = [
        # One after another: replicas that start want cores, and all at once want many.
        *((f"recmesh up {part}, a new release", ("up", part)) for part in PARTS),
        (
            f"recmesh model deploy {chosen.model}",
            ("model", "deploy", chosen.model, "--version", version),
        ),
        (f"recmesh model rollback {chosen.model}", ("model", "rollback", chosen.model)),
    ]
    found = []
    async with asked.loaded(deadline_s=chosen.deadline_s, seed=chosen.seed) as load:
        nothing = asyncio.create_task(asyncio.sleep(chosen.before))
        found.append(await asked_during(load, chosen.rate, "nothing", nothing))
        release.change()
        for name, arguments in steps:
            doing = asyncio.create_task(asyncio.to_thread(release.command, *arguments))
            found.append(await asked_during(load, chosen.rate, name, doing))
        after = asyncio.create_task(asyncio.sleep(chosen.before))
        found.append(await asked_during(load, chosen.rate, "nothing any more", after))
    return found


def table(steps: Sequence[Step]) -> Table:
    """A line a step."""
    made = Table(title="what callers saw", title_justify="left")
    for column in (
        "while",
        "seconds",
        "requests",
        "failed",
        "degraded",
        "slowest second's p99, ms",
    ):
        made.add_column(column, justify="left" if column == "while" else "right")
    for step in steps:
        made.add_row(
            step.name,
            f"{step.seconds:.0f}",
            f"{step.requests:,}",
            said_by_code(step.failed),
            str(step.degraded),
            "none" if step.p99_ms is None else f"{step.p99_ms:.0f}",
        )
    return made


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second")
    parser.add_argument("--before", type=float, default=10.0, help="seconds before and after")
    parser.add_argument("--model", default="cf")
    parser.add_argument("--deadline-s", type=float, default=1.0)
    parser.add_argument("--mix", default=DEFAULT_MIX, help="weights of surfaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="recmesh-release-") as folder:
        release = Release(Path(folder))
        release.command("up", "--detach")
        try:
            steps = asyncio.run(run(chosen, release))
        finally:
            release.command("down")
    if chosen.json:
        print(json.dumps([asdict(step) for step in steps], indent=1))
    else:
        console = wide_console(120)
        console.print(table(steps))
    sys.exit(any(step.failed or step.degraded for step in steps))


if __name__ == "__main__":
    main()
