"""``recmesh status``: what runs, how much of it, which version, how it fares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.deployments.applications import RUNNING, ApplicationState, states
from recmesh.deployments.edge_channel import Edge, edge_of
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.ray_cluster import join_cluster, leave_cluster
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

HEALTH_TIMEOUT_S = 2.0


def _edge_health(edge: Edge) -> str:
    with edge.channel() as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _print(console: Console, address: str, health: str, applications: Sequence[Any]) -> None:
    table = Table("application", "state", "replicas", "version", "in flight", "calls", "p50 ms")
    for state in applications:
        colour = "green" if state.state == RUNNING else "yellow"
        table.add_row(
            state.name,
            f"[{colour}]{state.state}[/{colour}]",
            f"{len(state.replicas)}/{state.target_replicas}",
            ", ".join(sorted({replica.version for replica in state.replicas})),
            str(sum(replica.inflight for replica in state.replicas)),
            str(sum(replica.requests for replica in state.replicas)),
            f"{p50_ms(state):.1f}",
        )
    console.print(table)
    for state in applications:
        if state.message:
            console.print(f"  {state.name}: {escape(state.message)}", style="yellow")
    console.print(f"  edge {address} {health}")


def p50_ms(state: ApplicationState) -> float:
    """Replicas' medians, weighed by their calls."""
    calls = sum(replica.requests for replica in state.replicas)
    weighed = sum(replica.p50_ms * replica.requests for replica in state.replicas)
    return weighed / calls if calls else 0.0


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for scripts.")] = False,
) -> None:
    """Show every application's replicas, version, load and latency, and the edge's health.

    Exits with 1 when no mesh runs, or something in it does not.

    Examples:

        recmesh status

        recmesh status --json
    """
    home = Home.from_environment()
    record = running_mesh(home)
    if record is None:
        if as_json:
            typer.echo(json.dumps({"running": False}))
        else:
            Console(stderr=True).print("no mesh runs here; start it with: recmesh up")
        raise typer.Exit(1)
    try:
        edge = edge_of(home)
        join_cluster(home, record.ray_address)
        try:
            found = states()
        finally:
            leave_cluster()
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None
    health = _edge_health(edge)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "running": True,
                    "address": record.address,
                    "secure": record.secure,
                    "edge": health,
                    "index_uri": record.index_uri,
                    "applications": [state.as_json() for state in found],
                }
            )
        )
    else:
        _print(Console(), record.address, health, found)
    if health != "SERVING" or any(state.state != RUNNING for state in found):
        raise typer.Exit(1)
