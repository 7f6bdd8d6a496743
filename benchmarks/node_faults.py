"""Loses a node of a mesh on several, and sets another's clock, under load: ``make chaos-nodes``.

Starts the mesh of ``RECMESH_HOME`` on a cluster of a head and two nodes, with two orchestrators and
two replicas of each model, one of each on every node. Clocks need Debian's ``libfaketime``.
Options and table are those of ``python -m benchmarks.chaos``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chaos import FAILED_AT_N_PLUS_1, MODELS, Case, options, run, show
from benchmarks.chaos_faults import Fault, MeshProcesses
from benchmarks.several_nodes import FAKETIME, RayNode, SeveralNodes, command, mesh_on_nodes

HOUR = 3600


class NodeLost(Fault):
    """All its processes end at once."""

    name = "lost"

    def __init__(self, cluster: SeveralNodes) -> None:
        super().__init__("one of two nodes")
        self._cluster = cluster

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """Another takes its place in the end."""
        lost = self._cluster.nodes[0]
        lost.lose()
        try:
            yield
        finally:
            self._cluster.replace(lost)


class ClockSet(Fault):
    """Its processes see another time; how fast it goes is the same."""

    def __init__(self, cluster: SeveralNodes, by_s: int) -> None:
        super().__init__("clock of one of two nodes")
        self._cluster = cluster
        self._by = f"{by_s:+d}"

    @property
    def name(self) -> str:
        """How far."""
        return f"{self._by} s"

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """And back."""
        node: RayNode = self._cluster.nodes[-1]
        node.set_clock(self._by)
        try:
            yield
        finally:
            node.set_clock("+0")


def main() -> None:
    """Runs every one of them."""
    chosen = options(__doc__)
    with mesh_on_nodes(2) as cluster:
        for model in MODELS:
            command("model", "scale", model, "--min", "2", "--max", "2")
        cases = [Case(NodeLost(cluster), FAILED_AT_N_PLUS_1, least_during_s=40.0, least_after_s=60)]
        if FAKETIME.exists():
            cases += [Case(ClockSet(cluster, by_s), 0.0) for by_s in (HOUR, -HOUR)]
        else:
            print(f"clocks are left alone: there is no {FAKETIME}", file=sys.stderr)
        seen = asyncio.run(run(chosen, cases))
    show(seen, as_json=chosen.json)


if __name__ == "__main__":
    main()
