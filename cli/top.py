"""``recmesh top``: what the mesh does now, from the metrics that it exports."""

from __future__ import annotations

import asyncio
import json as json_text
import math
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recmesh.cli.mesh_rates import MeshRates, mesh_rates
from recmesh.deployments.applications import RUNNING, ApplicationState, states
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.metrics_reader import Reading, read_metrics
from recmesh.deployments.ray_cluster import joined_cluster, metrics_addresses
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.home import Home

EVERY_S = 2.0
WINDOW_S = 30.0
"""Rates are over as long: the agents of nodes hear of calls every ten seconds."""
ONCE_S = 20.0

Read = Callable[[], Awaitable[tuple[Reading, list[ApplicationState]]]]


def _reader(urls: Sequence[str]) -> Read:
    async def of_urls() -> tuple[Reading, list[ApplicationState]]:
        return await read_metrics(urls), []

    async def of_cluster() -> tuple[Reading, list[ApplicationState]]:
        reading = await read_metrics(await asyncio.to_thread(metrics_addresses))
        return reading, await asyncio.to_thread(states)

    return of_urls if urls else of_cluster


def _ms(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def _percent(share: float, bad: float = 0.0) -> Text:
    return Text(f"{100 * share:.2f}%", style="red" if share > bad else "")


def _view(rates: MeshRates | None, applications: Sequence[ApplicationState]) -> Group:
    if rates is None:
        return Group(Text("waiting for metrics", style="dim"))
    pages = Table("pages", "/s", "p50 ms", "p99 ms", "errors", "degraded", expand=False)
    for one in rates.surfaces:
        pages.add_row(
            one.surface or "(refused)",
            f"{one.per_s:.1f}",
            _ms(one.p50_ms),
            _ms(one.p99_ms),
            _percent(one.error_share),
            _percent(one.degraded_share),
        )
    state_of = {state.name: state for state in applications}
    sources = Table(
        "asked", "/s", "p50 ms", "p99 ms", "failed", "in flight", "replicas", "state", "version"
    )
    for source in rates.sources:
        state = state_of.pop(source.source, None)
        replicas = str(source.replicas) if source.replicas else ""
        if source.left_alone:
            replicas += f" ({source.left_alone} left alone)"
        sources.add_row(
            source.source,
            f"{source.per_s:.1f}",
            _ms(source.p50_ms),
            _ms(source.p99_ms),
            _percent(source.failed_share),
            f"{source.in_flight:.0f}",
            replicas,
            _state(state),
            _versions(state),
        )
    others = Table("application", "replicas", "state", "in flight", "version")
    for state in state_of.values():
        others.add_row(
            state.name,
            f"{len(state.replicas)}/{state.target_replicas}",
            _state(state),
            str(sum(replica.inflight for replica in state.replicas)),
            _versions(state),
        )
    last = Text.assemble(
        f"over {rates.over_s:.0f} s   shed ",
        (f"{rates.shed_per_s:.1f}/s", "red" if rates.shed_per_s else ""),
        "   decision records lost ",
        (f"{rates.decisions_lost:.0f}", "red" if rates.decisions_lost else ""),
        f"   embedding {' and '.join(rates.embedding) or 'none'}",
    )
    shown: list[RenderableType] = [pages, sources, *([others] if state_of else []), last]
    return Group(*shown, Text("Ctrl-C leaves", style="dim"))


def _state(state: ApplicationState | None) -> Text:
    if state is None:
        return Text("")
    return Text(state.state, style="green" if state.state == RUNNING else "yellow")


def _versions(state: ApplicationState | None) -> str:
    return ", ".join(sorted({r.version[:12] for r in state.replicas})) if state else ""


async def _once(read: Read, console: Console, as_json: bool) -> None:
    before, _ = await read()
    with console.status(f"watching for {ONCE_S:.0f} s"):
        await asyncio.sleep(ONCE_S)
    now, applications = await read()
    rates = mesh_rates(before, now)
    if as_json:
        told = [state.as_json() for state in applications]
        typer.echo(json_text.dumps(rates.as_json() | {"applications": told}))
    else:
        console.print(_view(rates, applications))


async def _watch(read: Read, console: Console) -> None:
    leaving = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
    readings: deque[Reading] = deque()
    with Live(_view(None, []), console=console, screen=console.is_terminal) as live:
        while not leaving.is_set():
            try:
                now, applications = await read()
            except UnavailableError as error:
                live.update(Text(f"waiting: {error}", style="yellow"))
            else:
                readings.append(now)
                while len(readings) > 2 and now.at_s - readings[1].at_s >= WINDOW_S:
                    readings.popleft()
                rates = mesh_rates(readings[0], now) if len(readings) > 1 else None
                live.update(_view(rates, applications))
            try:
                async with asyncio.timeout(EVERY_S):
                    await leaving.wait()
            except TimeoutError:
                pass


def top_command(
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Read these addresses of Prometheus metrics, not the running mesh's."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help=f"Watch for {ONCE_S:.0f} s, print, and leave.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: for scripts.")] = False,
) -> None:
    """Watch requests, latencies, models and what is lacking, live.

    From the metrics that the mesh exports for Prometheus. Rates and quantiles are over the last
    30 seconds.

    Examples:

        recmesh top

        recmesh top --once --json

        recmesh top --metrics http://127.0.0.1:9464/metrics
    """
    if as_json and not once:
        raise typer.BadParameter("--json goes with --once")
    console = Console(stderr=as_json)
    home = Home.from_environment()

    def run(read: Read) -> None:
        asyncio.run(_once(read, console, as_json) if once else _watch(read, console))

    try:
        if metrics:
            run(_reader(metrics))
            return
        record = running_mesh(home)
        if record is None:
            raise UnavailableError("no mesh runs here; start it with: recmesh up")
        with joined_cluster(home, record.ray_address):
            run(_reader([]))
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
