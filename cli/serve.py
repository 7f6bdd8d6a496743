"""``recmesh serve``: the whole mesh in one process, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recmesh.cli.written_data import mesh_config
from recmesh.deployments.external_model import external_models
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.deployments.local_mesh import local_mesh
from recmesh.deployments.telemetry import telemetry
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home


async def _serve(policy: Path, address: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    console = Console()
    home = Home.from_environment()
    config = mesh_config(home)
    told = config.telemetry
    # People read what this prints; machines get the whole log.
    with telemetry(told, "serve", logs=told.log_format == "json"):
        async with local_mesh(
            home,
            policy,
            address,
            config.database.uri,
            config.attribution.keys_of(home),
            config.campaigns,
            config.decisions,
            config.events,
            external_models(config),
        ) as mesh:
            console.print(f"serving on [bold]{mesh.address}[/bold]; Ctrl-C stops")
            console.print(
                f"  models     {', '.join(mesh.models) or 'none: popular and fresh only'}"
            )
            console.print(f"  embedding  {mesh.embedding or 'none'}")
            await stopped.wait()
            console.print("stopping")


def serve_command(
    address: Annotated[
        str, typer.Option(help="host:port; port 0 is a free one.")
    ] = DEFAULT_ADDRESS,
    policy: Annotated[Path, typer.Option(help="Policy file.")] = DEFAULT_POLICY,
) -> None:
    """Serve everything that is trained and indexed, in one process.

    Examples:

        recmesh serve

        recmesh serve --address 127.0.0.1:6000 --policy my-policy.toml
    """
    try:
        asyncio.run(_serve(policy, address))
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from None
