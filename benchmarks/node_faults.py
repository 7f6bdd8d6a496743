"""Loses a node of a mesh on several under load, or sets its clock: ``make chaos-nodes``.

    python -m benchmarks.node_faults
    python -m benchmarks.node_faults --clocks --rate 2

Starts the mesh of ``RECMESH_HOME`` on a cluster of a head and two nodes, with two orchestrators and
two replicas of each model, one of each on every node. Clocks need Debian's ``libfaketime``, which
stands between every process and the time and makes pages slow. Options and table are those of
``python -m benchmarks.chaos``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chaos import FAILED_AT_N_PLUS_1, MODELS, Case, options, run, show
from benchmarks.chaos_faults import Fault, MeshProcesses
from benchmarks.own_command import command
from benchmarks.several_nodes import FAKETIME, RayNode, SeveralNodes, mesh_on_nodes

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
        # A node that came in later has nothing on it.
        node = max(self._cluster.nodes, key=RayNode.replicas)
        node.set_clock(self._by)
        try:
            yield
        finally:
            node.set_clock("+0")


def main() -> None:
    """Runs every one of them."""
    parser = options(__doc__)
    parser.add_argument("--clocks", action="store_true", help="set a clock; lose no node")
    chosen = parser.parse_args()
    if chosen.clocks and not FAKETIME.exists():
        raise SystemExit(f"there is no {FAKETIME}; on Debian: apt-get install libfaketime")
    with mesh_on_nodes(2, clocks=chosen.clocks) as cluster:
        for model in MODELS:
            command("model", "scale", model, "--min", "2", "--max", "2")
        cases = [Case(NodeLost(cluster), FAILED_AT_N_PLUS_1, least_during_s=40.0, least_after_s=60)]
        if chosen.clocks:
            cases = [Case(ClockSet(cluster, by_s), 0.0) for by_s in (HOUR, -HOUR)]
        seen = asyncio.run(run(chosen, cases))
    show(seen, as_json=chosen.json)


if __name__ == "__main__":
    main()
