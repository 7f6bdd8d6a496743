"""Breaks a running mesh until each alert rings, follows its runbook, and waits until it is over.

    recmesh up --detach
    python -m benchmarks.alert_drill
    python -m benchmarks.alert_drill --only "nlp down" --json

A real Prometheus scrapes the mesh and evaluates the rules of ``k8s/base/rules``, whose minutes are
made ten times shorter. Under load, faults are caused one after another; of each alert that is to
ring, the commands of its runbook that need no cluster are run while it does. Then every query of
the dashboards is asked. Ends with 1 when an alert does not ring, or does not end, or a command
says nothing, or a query about the mesh finds nothing. Fifty minutes; needs Debian's package
``prometheus``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.asked_mesh import AskedMesh
from benchmarks.chaos import ENVOY, ORCHESTRATOR, WRITER, replica
from benchmarks.chaos_faults import DiskFull, Down, Fault, MeshProcesses, Slowed
from benchmarks.prometheus_server import PrometheusServer, prometheus_watching, socket_offered
from benchmarks.running_campaigns import order_campaigns
from benchmarks.wide_console import wide_console
from k8s.validation.prometheus import queries
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.cli.load_generation.request_mix import DEFAULT_MIX
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.edge_config import Limits
from recmesh.deployments.ip_address import split_address
from recmesh.deployments.ray_cluster import joined_cluster, metrics_addresses
from recmesh.storage.home import Home

K8S = Path(__file__).resolve().parent.parent / "k8s"
HURRY = 10
"""How many times shorter the rules' durations are."""
ONE_EDGE = {
    "envoy_server_live == 1) or vector(0)) < 2": "envoy_server_live == 1) or vector(0)) < 1"
}
"""A mesh of one machine has one Envoy."""
KUBERNETES = re.compile(r"\b(kube|kubelet|container)_\w+")
"""Metrics of the cluster's, which no process of ours exports."""
DAYS = ("RecMeshErrorBudgetBurnSlow", "RecMeshLatencyBudgetBurnSlow")
"""They look at hours even so, and end long after what they rang for."""
LOAD_PER_S = 20.0
FEEDBACK_SHARE = 0.5
DEADLINE_S = 1.0
COMMAND_S = 90.0
KNOCK_EVERY_S = 0.1
OVERSOLD = 2_000_000
"""Impressions of each campaign in some hours."""


class TooMuch(Fault):
    """More is asked, as critical, than can be answered."""

    name = "too much asked"

    def __init__(self) -> None:
        super().__init__("mesh")

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """By a second generator."""
        command = [sys.executable, "-m", "recmesh.cli.main", "load", "--rate", "400"]
        options = ["--seconds", "3600", "--priority", "critical", "--deadline-s", "0.5"]
        asking = subprocess.Popen(
            [*command, *options, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            asking.terminate()
            asking.wait()


class Crowded(Fault):
    """More connections are open than the edge takes, and more are tried all the time."""

    name = "crowded"

    def __init__(self) -> None:
        super().__init__("edge")

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """By connections that say nothing; they end with the fault."""
        address = split_address(edge_of(Home.from_environment()).address)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        over = threading.Event()
        with ExitStack() as connections:
            for _ in range(Limits().connections):
                connections.enter_context(socket.create_connection(address))

            def knock() -> None:
                while not over.wait(KNOCK_EVERY_S):
                    socket.create_connection(address).close()

            knocking = threading.Thread(target=knock)
            knocking.start()
            try:
                yield
            finally:
                over.set()
                knocking.join()


class Oversold(Fault):
    """Campaigns are ordered that want more slots than doctors look at."""

    name = "oversold"

    def __init__(self) -> None:
        super().__init__("campaigns")

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """Through the mesh's own service; ends them before their time."""
        home = Home.from_environment()
        dataset = current_dataset(home)
        with edge_of(home).channel() as channel:
            order_campaigns(channel, dataset, budget=OVERSOLD)
            try:
                yield
            finally:
                order_campaigns(channel, dataset, budget=OVERSOLD, lasts_s=0)


@dataclass(frozen=True)
class Drill:
    """A fault, and what is to ring."""

    fault: Fault
    alerts: tuple[str, ...]


@dataclass(frozen=True)
class Rung:
    """What became of an alert."""

    alert: str
    fault: str
    after_s: float | None
    """From the fault's beginning until it rang; None: it did not."""
    over_after_s: float | None
    """From the fault's end; None: not within the time, or not waited for."""
    commands: dict[str, bool]
    """Whether each of its runbook's commands said something: that all is well, or what is not."""

    @property
    def fine(self) -> bool:
        """Whether it rang, ended, and its runbook can be followed."""
        ended = self.alert in DAYS or self.over_after_s is not None
        return self.after_s is not None and ended and all(self.commands.values())


DRILLS = (
    Drill(
        Down("nlp", replica("nlp")),
        ("RecMeshSourceDown", "RecMeshDeploymentDown", "RecMeshSourceDegraded"),
    ),
    Drill(DiskFull("writer", WRITER), ("RecMeshErrorBudgetBurn", "RecMeshErrorBudgetBurnSlow")),
    Drill(
        Slowed("orchestrators", ORCHESTRATOR),
        ("RecMeshLatencyBudgetBurn", "RecMeshLatencyBudgetBurnSlow"),
    ),
    Drill(Down("writer", WRITER), ("RecMeshDecisionRecordsLost",)),
    Drill(TooMuch(), ("RecMeshCriticalShed",)),
    Drill(Down("edge", ENVOY), ("RecMeshEdgeDown",)),
    Drill(Crowded(), ("RecMeshEdgeFull",)),
    Drill(
        Down("orchestrators and writer", ORCHESTRATOR, WRITER),
        ("RecMeshNoHealthyOrchestrator", "RecMeshSilent"),
    ),
    Drill(Oversold(), ("RecMeshCampaignPacingOff",)),
)


def followed(alert: str, part: str) -> dict[str, bool]:
    """Runs what the alert's runbook has one look at first, and returns whether that said what is.

    Status 1 is an answer, too: that something is not well.
    """
    text = (K8S / "runbooks" / f"{alert}.md").read_text()
    found = {}
    for line in re.findall(r"^\$IN (recmesh .+)$", text, re.MULTILINE):
        said = line.replace("NAME", part)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "recmesh.cli.main", *shlex.split(said)[1:]],
                capture_output=True,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            found[said] = False
            continue
        words = done.stdout + done.stderr
        found[said] = done.returncode in (0, 1) and bool(words) and "Traceback" not in words
    return found


def until_over(
    alert: str, prometheus: PrometheusServer, most_s: float, interrupted: threading.Event
) -> float | None:
    """Seconds until an alert no longer rings; None: it did all the time."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < most_s and not interrupted.is_set():
        if alert not in prometheus.firing():
            return time.monotonic() - began_s
        interrupted.wait(1.0)
    return None


def drilled(
    drill: Drill,
    mesh: MeshProcesses,
    prometheus: PrometheusServer,
    most_s: float,
    interrupted: threading.Event,
) -> list[Rung]:
    """Causes the fault until all has rung, follows the runbooks, ends it, waits for silence.

    Sooner once ``interrupted``; the fault ends in any case.
    """
    early = prometheus.firing() & set(drill.alerts)
    if early:
        raise SystemExit(f"{', '.join(early)}: rings before anything was done")
    began_s = time.monotonic()
    rang: dict[str, float] = {}
    commands: dict[str, dict[str, bool]] = {}
    with drill.fault.happening(mesh):
        while (
            len(rang) < len(drill.alerts)
            and time.monotonic() - began_s < most_s
            and not interrupted.is_set()
        ):
            for alert in prometheus.firing() & set(drill.alerts) - set(rang):
                rang[alert] = time.monotonic() - began_s
                print(f"  {alert} rings after {rang[alert]:.0f} s", file=sys.stderr, flush=True)
                commands[alert] = followed(alert, drill.fault.part)
            interrupted.wait(1.0)
    found = []
    for alert in drill.alerts:
        over_s = None
        if alert in rang and alert not in DAYS:
            over_s = until_over(alert, prometheus, most_s, interrupted)
            print(f"  {alert} over: {over_s}", file=sys.stderr, flush=True)
        rung = Rung(alert, drill.fault.title, rang.get(alert), over_s, commands.get(alert, {}))
        found.append(rung)
    return found


def unanswered(prometheus: PrometheusServer) -> tuple[int, list[str]]:
    """How many queries the dashboards ask of the mesh, and those that find no series."""
    asked = []
    for file in sorted((K8S / "base" / "dashboards").glob("*.json")):
        asked += queries(json.loads(file.read_text()))
    ours = [query for query in asked if not KUBERNETES.search(query)]
    return len(ours), [query for query in ours if not prometheus.query(query)]


async def loaded(asked: AskedMesh) -> None:
    """Asks for pages and reports what came of them, until cancelled."""
    async with asked.loaded(deadline_s=DEADLINE_S, seed=0, feedback_share=FEEDBACK_SHARE) as load:
        while not load.interrupted:
            await load.profile([Segment(LOAD_PER_S, 60.0)], "", lambda *_: None)


async def run(chosen: argparse.Namespace) -> tuple[list[Rung], int, list[str]]:
    """All drills, under load; then the dashboards."""
    asked = AskedMesh.running(DEFAULT_MIX, campaigns=False)
    mesh = MeshProcesses(asked.pid)
    (envoy,) = mesh.called([ENVOY])
    (bootstrap,) = [word for word in envoy.cmdline() if word.endswith(ENVOY)]
    with joined_cluster(asked.home, required_mesh(asked.home).ray_address):
        nodes = metrics_addresses()
    found: list[Rung] = []
    interrupted = threading.Event()
    with ExitStack() as stack:
        edge = stack.enter_context(
            socket_offered(Path(bootstrap).parent / "admin", "/stats/prometheus")
        )
        prometheus = stack.enter_context(prometheus_watching(nodes, edge, HURRY, ONE_EDGE))
        asking = asyncio.create_task(loaded(asked))
        try:
            # A rate needs two of what the agents hand on every ten seconds.
            await asyncio.sleep(chosen.before)
            for drill in DRILLS:
                if chosen.only and drill.fault.title not in chosen.only:
                    continue
                print(drill.fault.title, file=sys.stderr, flush=True)
                found += await asyncio.to_thread(
                    drilled, drill, mesh, prometheus, chosen.most, interrupted
                )
            await asyncio.sleep(chosen.before)
            count, silent = await asyncio.to_thread(unanswered, prometheus)
        finally:
            interrupted.set()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return found, count, silent


def table(found: Sequence[Rung]) -> Table:
    """A line an alert."""
    made = Table(title=f"alerts, their minutes {HURRY} times shorter", title_justify="left")
    for column in ("alert", "fault", "rang after", "over after", "runbook's commands"):
        made.add_column(column)
    for rung in found:
        failed = [said for said, answered in rung.commands.items() if not answered]
        made.add_row(
            rung.alert,
            rung.fault,
            "never" if rung.after_s is None else f"{rung.after_s:.0f} s",
            _over(rung),
            "; ".join(f"{said} failed" for said in failed) or f"{len(rung.commands)} answered",
        )
    return made


def _over(rung: Rung) -> str:
    if rung.over_after_s is not None:
        return f"{rung.over_after_s:.0f} s"
    return "looks at hours" if rung.alert in DAYS else "never"


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = "; ".join(f'"{drill.fault.title}"' for drill in DRILLS)
    parser.add_argument("--only", action="append", help=f"may be repeated: {known}")
    parser.add_argument("--before", type=float, default=40.0, help="seconds to get to know it")
    parser.add_argument("--most", type=float, default=600.0, help="seconds to wait for an alert")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found, count, silent = asyncio.run(run(chosen))
    if chosen.json:
        print(json.dumps({"alerts": [asdict(one) for one in found], "silent": silent}, indent=1))
    else:
        console = wide_console(160)
        console.print(table(found))
        console.print(f"dashboards: {count - len(silent)} of {count} queries find series")
        for query in silent:
            console.print(f"  nothing: {query}", highlight=False, markup=False)
    sys.exit(bool(silent) or not all(rung.fine for rung in found))


if __name__ == "__main__":
    main()
