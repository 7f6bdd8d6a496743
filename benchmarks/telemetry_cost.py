"""What metrics and traces cost: ``python -m benchmarks.telemetry_cost``.

First one observation, by who counts it. Then a page of the whole pipeline with four trivial models
in the same process, without a network: settings take turns of a few pages each, and the lower
quartile of the turns counts. CPU of this process; the collector is another one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from rich.console import Console
from rich.table import Table

from benchmarks.trivial_model import CANDIDATES, NAMES, TrivialModel
from recmesh.deployments.call_watch import CallWatch
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.deployments.span_export import spans_exported
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.telemetry.measures import DURATIONS_S, Counter, Histogram
from recmesh.v1 import recommendation_pb2

USERS = 64
COLLECTOR = """
import sys
from recmesh.deployments.span_receiver import spans_received
with spans_received() as receiver:
    print(receiver.endpoint, flush=True)
    sys.stdin.read()
"""


def _us(call: Callable[[], object], times: int = 20_000) -> float:
    """CPU µs a call, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        began_s = time.process_time()
        for _ in range(times):
            call()
        best = min(best, 1e6 * (time.process_time() - began_s) / times)
    return best


def observations(console: Console, with_ray: bool) -> tuple[float, float]:
    """One observation of a histogram and of a counter, each with two labels.

    Returns what ours cost, µs.
    """
    tags = {"stage": "retrieve", "surface": "feed"}
    ours = Histogram("h", "", ("stage", "surface"), DURATIONS_S)
    counts = Counter("c_total", "", ("stage", "surface"))
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram(
        "h", "", ["stage", "surface"], buckets=DURATIONS_S, registry=registry
    )
    counted = prometheus_client.Counter("c", "", ["stage", "surface"], registry=registry)
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("benchmark")
    otel, otel_counter = meter.create_histogram("h"), meter.create_counter("c")
    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (
            "ours",
            lambda: ours.observe(0.02, "retrieve", "feed"),
            lambda: counts.add("retrieve", "feed"),
        ),
        (
            "prometheus_client",
            lambda: theirs.labels("retrieve", "feed").observe(0.02),
            lambda: counted.labels("retrieve", "feed").inc(),
        ),
        (
            "OpenTelemetry SDK",
            lambda: otel.record(0.02, tags),
            lambda: otel_counter.add(1, tags),
        ),
    ]
    if with_ray:
        from recmesh.deployments.ray_cluster import leave_cluster, start_cluster

        start_cluster(Home(Path("/tmp/recmesh-telemetry-cost")), 2, serving=False)
        from ray.util.metrics import Counter as RayCounter
        from ray.util.metrics import Histogram as RayHistogram

        names = tuple(tags)
        ray_histogram = RayHistogram("h", "", list(DURATIONS_S), names)
        ray_counter = RayCounter("c", "", names)
        rows.append(
            (
                "ray.util.metrics",
                lambda: ray_histogram.observe(0.02, tags),
                lambda: ray_counter.inc(1, tags),
            )
        )
    table = Table("CPU µs", "histogram", "counter")
    costs = {name: (_us(histogram), _us(counter)) for name, histogram, counter in rows}
    for name, (histogram_us, counter_us) in costs.items():
        table.add_row(name, f"{histogram_us:.2f}", f"{counter_us:.2f}")
    console.print(table)
    if with_ray:
        leave_cluster()
    return costs["ours"]


@contextmanager
def _collector() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COLLECTOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate("")


async def _mesh(home: Home) -> Mesh:
    dataset = Dataset.open(home.dataset)
    ids = dataset.items["item_id"].slice(0, CANDIDATES).to_pylist()
    panel = ModelPanel({n: InProcessModelClient(TrivialModel(n, ids)) for n in NAMES})
    await panel.refresh()
    policy = Policy.load(Path(__file__).with_name("policy.toml"))
    return Mesh(panel, None, Snapshot.of(dataset, policy, None))


async def _pages(
    mesh: Mesh, requests: list[Any], watch: CallWatch, metadata: tuple[tuple[str, str], ...]
) -> float:
    """CPU ms a page, each answered in a task of its own, as a server does."""

    async def page(request: Any) -> None:
        call = watch.begin(metadata)
        (await recommend(mesh, request, 5.0)).SerializeToString()
        call.end()

    began_s = time.process_time()
    for request in requests:
        await asyncio.create_task(page(request))
    return 1e3 * (time.process_time() - began_s) / len(requests)


@contextmanager
def _counting_nothing() -> Iterator[None]:
    with (
        patch.object(Counter, "add", lambda *_, **__: None),
        patch.object(Histogram, "observe", lambda *_: None),
        patch("recmesh.orchestrator.recommend.measure", lambda *_: None),
    ):
        yield


async def _observed(mesh: Mesh, request: Any, watch: CallWatch) -> tuple[int, int]:
    """Observations of histograms and of counters that a page makes."""
    with (
        patch.object(Counter, "add", autospec=True) as counted,
        patch.object(Histogram, "observe", autospec=True) as observed,
    ):
        await _pages(mesh, [request], watch, ())
    return observed.call_count, counted.call_count


async def pages(console: Console, turns: int, times: int, costs_us: tuple[float, float]) -> None:
    """A page under each setting."""
    home = Home.from_environment()
    mesh = await _mesh(home)
    users = Dataset.open(home.dataset).users["user_id"].slice(0, USERS).to_pylist()
    requests = [
        recommendation_pb2.RecommendRequest(surface="feed", user_id=users[n % len(users)])
        for n in range(times)
    ]
    watch = CallWatch("recmesh.v1.RecommendationService", "Recommend", begins_traces=True)
    with _collector() as endpoint:

        def exported(ratio: float) -> Any:
            return spans_exported(endpoint, ratio, "benchmark", "1", "1")

        settings: dict[str, Callable[[], Any]] = {
            "no metrics, no traces": _counting_nothing,
            "metrics": ExitStack,
            "metrics, traces of no request": lambda: exported(0.0),
            "metrics, traces of 1% of requests": lambda: exported(0.01),
            "metrics, traces of every request": lambda: exported(1.0),
        }
        await _pages(mesh, requests, watch, ())
        histograms, counters = await _observed(mesh, requests[0], watch)
        whole_us = histograms * costs_us[0] + counters * costs_us[1]
        console.print(
            f"a page makes {histograms} observations of histograms and {counters} of counters: "
            f"{whole_us:.0f} µs by the table above"
        )
        found: dict[str, list[float]] = {name: [] for name in settings}
        names = list(settings)
        for turn in range(turns):
            # Each follows each as often.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with settings[name]():
                    found[name].append(await _pages(mesh, requests, watch, ()))
    best = {name: float(np.quantile(costs, 0.25)) for name, costs in found.items()}
    first = next(iter(best.values()))
    table = Table("a page", "CPU ms", "more, µs", "more")
    for name, cost_ms in best.items():
        table.add_row(
            name,
            f"{cost_ms:.3f}",
            f"{1e3 * (cost_ms - first):.0f}",
            f"{100 * (cost_ms / first - 1):.1f}%",
        )
    console.print(table)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--pages", type=int, default=25)
    parser.add_argument("--ray", action="store_true", help="measure Ray's instruments, too")
    arguments = parser.parse_args()
    console = Console()
    costs_us = observations(console, arguments.ray)
    asyncio.run(pages(console, arguments.turns, arguments.pages, costs_us))


if __name__ == "__main__":
    main()
