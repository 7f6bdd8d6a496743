"""``recmesh down``: stops the mesh, or takes models out of it."""

from __future__ import annotations

from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.markup import escape

from recmesh.deployments.applications import remove
from recmesh.deployments.mesh_record import holder, running_mesh
from recmesh.deployments.ray_cluster import join_cluster, leave_cluster
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.home import Home

STOP_TIMEOUT_S = 30.0


def _stop(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise UnavailableError(f"process {pid} is another user's") from error
    except psutil.TimeoutExpired as error:
        raise UnavailableError(
            f"process {pid} still runs after {STOP_TIMEOUT_S:.0f} s; kill -9 {pid} "
            "ends it and everything it started"
        ) from error


def down_command(
    models: Annotated[
        list[str] | None, typer.Argument(help="Take only these out; the mesh serves on.")
    ] = None,
) -> None:
    """Stop the mesh and everything it started, even while it starts.

    Nothing happens when none runs.

    Examples:

        recmesh down

        recmesh down cf
    """
    console = Console()
    home = Home.from_environment()
    pid, record = holder(home), running_mesh(home)
    if pid is None or (models and record is None):
        console.print("no mesh runs here" if pid is None else "the mesh is still starting")
        raise typer.Exit(0 if pid is None else 1)
    try:
        if not models or record is None:
            with console.status("stopping"):
                _stop(pid)
            console.print("stopped")
            return
        join_cluster(home, record.ray_address)
        try:
            for name in models:
                console.print(f"{name} removed" if remove(name) else f"{name} was not deployed")
        finally:
            leave_cluster()
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None
