"""What `recmesh ope` says a policy would earn, against what it earns, in a world that knows.

    python -m benchmarks.off_policy_world [--doctors 4000] [--home DIR]

Doctors of a synthetic world ask a mesh for feed pages whose slots are filled with some chance, and
click as the world's truth has it. From the decision log and the events, `recmesh ope` judges two
other policies: one that is near, and one that is far. What pages of each are worth the truth says,
of pages that were asked for before anybody clicked. Minutes of two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiment_world import (
    SLOTS,
    Callers,
    Float64,
    Int64,
    World,
    asking,
    made_home,
)
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home

SLATES = 16
OBJECTIVES = {
    "logged": {"relevance": 0.75, "freshness": 0.12, "novelty": 0.05},
    "near": {"relevance": 0.55, "freshness": 0.40, "novelty": 0.05},
    "far": {"relevance": 0.10, "freshness": 0.10, "novelty": 0.80},
}
CHANCE = {"temperature": 0.1, "most_chance_loss": 1.0}
SETTLED_S = 2.0
"""After which everything is recorded."""
START_S = 30.0
"""How long a command may take to start. Its window begins that much later than was asked for, so
that an earlier one is asked for, at a time when no page was served."""


def policies(folder: Path) -> dict[str, Path]:
    """The default policy's feed with other weights and some chance, one file each."""
    head, feed = DEFAULT_POLICY.read_text().split("[surfaces.feed.objective_weights]")
    _, slate = feed.split("[surfaces.feed.slate]", 1)
    files = {}
    for name, weights in OBJECTIVES.items():
        lines = [f"{objective} = {weight}" for objective, weight in weights.items()]
        chance = [f"{rule} = {value}" for rule, value in CHANCE.items()]
        files[name] = folder / f"{name}.toml"
        files[name].write_text(
            "\n".join(
                [
                    head.replace('name = "default"', f'name = "{name}"'),
                    "[surfaces.feed.objective_weights]",
                    *lines,
                    "[surfaces.feed.slate]",
                    *chance,
                ]
            )
            + slate
        )
    return files


@contextlib.asynccontextmanager
async def served(world: World, policy: Path) -> AsyncIterator[Callers]:
    """A mesh with this policy, and who asks it."""
    async with (
        local_mesh(world.home, policy, "127.0.0.1:0") as mesh,
        asking(mesh.address) as channel,
    ):
        yield Callers(world, channel)


def worth(world: World, pages: Int64) -> Float64:
    """Clicks to expect of every doctor's page ``[doctors]``."""
    return world.likely(np.arange(len(world.doctors)), pages).sum(axis=1)


def judged(home: Home, policy: Path, since_s: float) -> dict[str, Any]:
    """What the command says of the pages since then."""
    command = [sys.executable, "-m", "recmesh.cli.main", "ope", "--policy", str(policy)]
    done = subprocess.run(
        [
            *command,
            *("--slates", str(SLATES)),
            *("--since-h", str((time.time() - since_s + START_S) / 3600), "--json"),
        ],
        env=os.environ | {"RECMESH_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def main(doctors: int, folder: Path) -> None:
    """Prints what was foretold, and what came true."""
    home, truth = made_home(folder, doctors)
    world = World(home, truth, np.random.default_rng(5))
    files = policies(folder)
    # Before anybody clicks: what was read is not shown again.
    true = {}
    for name, file in files.items():
        async with served(world, file) as callers:
            true[name] = float(worth(world, (await callers.pages())[0]).mean())
    await asyncio.sleep(START_S)
    began_s = time.time()
    async with served(world, files["logged"]) as callers:
        await callers.experience()
        await asyncio.sleep(SETTLED_S)
    foretold = {name: judged(home, files[name], began_s) for name in ("near", "far")}
    logged = foretold["near"]["logged"]
    print(
        f"{len(world.doctors):,} doctors, first {SLOTS} slots; clicks a page: "
        f"{logged['value']:.4f} [{logged['low']:.4f}, {logged['high']:.4f}] "
        f"were logged, {true['logged']:.4f} are to be expected"
    )
    for name, found in foretold.items():
        change = true[name] / true["logged"] - 1
        print(f"\n{name}: {true[name]:.4f} when it serves, {change:+.1%}; {found['pages']:,} pages")
        for one in found["estimates"]:
            said = (
                f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}] "
                f"holds the truth: {one['low'] <= true[name] <= one['high']}"
                if one["usable"]
                else f"refused: {one['refusals'][0]}"
            )
            print(f"  {one['estimator']:<10} {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--doctors", type=int, default=4000)
    parser.add_argument("--home", type=Path, help="Folder to work in; default: a temporary one.")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(main(given.doctors, place))
