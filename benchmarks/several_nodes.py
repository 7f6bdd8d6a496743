"""A mesh on several Ray nodes of this machine, for what one node cannot show.

The head has no CPUs, as in ``k8s/``; every other node is a raylet of its own, whose clock can be
set where Debian's ``libfaketime`` is installed. Replicas are spread over them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import psutil
from ray.cluster_utils import Cluster

from benchmarks.own_command import command
from recmesh.deployments.mesh_config import DEFAULT_CONFIG

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
CPUS_A_NODE = 8
OBJECT_STORE_BYTES = 100_000_000


@dataclass
class RayNode:
    """A raylet with all that runs on it."""

    raylet: Any
    clock: Path

    def processes(self) -> list[psutil.Process]:
        """The raylet, its agents and workers."""
        found = []
        for infos in self.raylet.all_processes.values():
            for info in infos:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(info.process.pid)
                    found += [process, *process.children(recursive=True)]
        return found

    def replicas(self, application: str = "") -> int:
        """Processes of an application's replicas on it; empty: of all."""
        title = f"ray::ServeReplica:{application}"
        found = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += title in " ".join(process.cmdline())
        return found

    def lose(self) -> None:
        """Ends it as a machine ends that loses its power."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def set_clock(self, by: str) -> None:
        """Has its processes see another time, from a second later; ``+0`` is the real one."""
        self.clock.write_text(by)


class SeveralNodes:
    """A cluster; ends with the context."""

    def __init__(self, nodes: int, *, clocks: bool = False) -> None:
        """``nodes`` besides the head; ``clocks``: theirs can be set, which makes them slow."""
        self._count = nodes
        self._clocks = clocks
        self._folder = TemporaryDirectory(prefix="recmesh-nodes-")
        self._cluster: Any = None
        self.nodes: list[RayNode] = []

    def __enter__(self) -> Self:
        token = Path(self._folder.name) / "ray-token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        head = {
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        # Without handlers of signals, which only the main thread may set.
        self._cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        for _ in range(self._count):
            self.add()
        return self

    def add(self) -> RayNode:
        """One node more."""
        clock = Path(self._folder.name) / f"clock-{secrets.token_hex(4)}"
        clock.write_text("+0")
        variables = {
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            # Waits are by the monotonic clock, which no correction of the time moves.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "LD_PRELOAD": str(FAKETIME),
            # Ray takes it away from workers otherwise, and puts its own in its place
            # unless the starting process says something of it.
            "RAY_LD_PRELOAD_ON_WORKERS": "1",
        }
        os.environ.setdefault("LD_PRELOAD", "")
        raylet = self._cluster.add_node(
            num_cpus=CPUS_A_NODE,
            object_store_memory=OBJECT_STORE_BYTES,
            env_vars=variables if self._clocks else {},
        )
        node = RayNode(raylet, clock)
        self.nodes.append(node)
        return node

    def replace(self, lost: RayNode) -> None:
        """A new node for one that is lost."""
        self.nodes.remove(lost)
        with contextlib.suppress(Exception):
            self._cluster.remove_node(lost.raylet, allow_graceful=False)
        self.add()

    @property
    def address(self) -> str:
        """Of the control store."""
        return str(self._cluster.address)

    def replicas(self, application: str) -> int:
        """Processes of an application's replicas, on all nodes."""
        return sum(node.replicas(application) for node in self.nodes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.shutdown()
        self._folder.cleanup()


@contextmanager
def mesh_on_nodes(
    nodes: int, config: Path = DEFAULT_CONFIG, *, clocks: bool = False
) -> Iterator[SeveralNodes]:
    """The mesh of ``RECMESH_HOME`` with two orchestrators, on nodes of its own while the context is
    open; ``clocks``: of the nodes can be set."""
    with SeveralNodes(nodes, clocks=clocks) as cluster:
        command(
            *("up", "--detach", "--config", str(config)),
            RECMESH_RAY__ADDRESS=cluster.address,
            RECMESH_ORCHESTRATOR__MIN_REPLICAS="2",
            RECMESH_ORCHESTRATOR__MAX_REPLICAS="2",
        )
        try:
            yield cluster
        finally:
            command("down")
