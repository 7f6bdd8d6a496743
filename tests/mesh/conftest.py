"""One whole mesh for all tests of this folder, started as its user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from recmesh.deployments.ray_cluster import TOKEN_VARIABLES
from recmesh.models.registry import MODELS
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import free_port
from tests.small_world import ingested_home, train


@dataclass(frozen=True)
class RunningMesh:
    """A mesh in processes of its own."""

    home: Home
    collector: str = ""
    """Where it sends spans, if somebody listens."""

    def recmesh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command on this mesh."""
        done = subprocess.run(
            [sys.executable, "-m", "recmesh.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        return {
            # The token of this process' own cluster is another's.
            **{k: v for k, v in os.environ.items() if k not in TOKEN_VARIABLES},
            "RECMESH_HOME": str(self.home.root),
            "RECMESH_EDGE__ADDRESS": "127.0.0.1:0",
            "RECMESH_RAY__NUM_CPUS": "4",
            "RECMESH_TELEMETRY__OTLP_ENDPOINT": self.collector,
            "RECMESH_ORCHESTRATOR__POLICY": str(self.policy),
        }

    @property
    def policy(self) -> Path:
        """The default policy, but patient with models: a test machine may be busy."""
        return self.home.root / "patient.toml"

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.home.run / "mesh.json").read_text())
        return record

    @property
    def address(self) -> str:
        return str(self.record["address"])

    def status(self) -> dict[str, Any]:
        """Applications by name, as ``recmesh status --json`` tells them."""
        done = self.recmesh("status", "--json", check=False)
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        return {state["name"]: state for state in answer["applications"]}

    def processes(self, title: str) -> list[psutil.Process]:
        """The mesh's processes whose command line contains ``title``."""
        found = []
        for process in psutil.Process(self.record["pid"]).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def listening(self) -> dict[str, set[str]]:
        """Where the mesh's processes, with all that they started, listen: hosts by process."""
        hosts: dict[str, set[str]] = {}
        holder = psutil.Process(self.record["pid"])
        for process in [holder, *holder.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                for socket in process.net_connections("tcp"):
                    if socket.status == psutil.CONN_LISTEN:
                        host = socket.laddr.ip.removeprefix("::ffff:")
                        hosts.setdefault(process.name(), set()).add(host)
        return hosts


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """Every model trained on the small data set, indexed, up."""
    collector = f"http://127.0.0.1:{free_port()}"
    running = RunningMesh(ingested_home(tmp_path_factory.mktemp("mesh")), collector)
    default = DEFAULT_POLICY.read_text()
    patient = default.replace("source_timeout_s = 0.25", "source_timeout_s = 0.8")
    assert patient != default
    running.policy.write_text(patient)
    for name in MODELS:
        train(running.home, name)
    running.recmesh("index")
    running.recmesh("up", "--detach")
    pid = running.record["pid"]
    yield running
    running.recmesh("down")
    assert not psutil.pid_exists(pid)
