"""``recmesh model logs``: what a model's replicas wrote."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.replica_logs import LogLine, ReplicaLogs
from recmesh.models.registry import check_known
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

FOLLOWING_S = 1.0


def _say(lines: list[LogLine], as_json: bool) -> None:
    for line in lines:
        told = {"replica": line.replica, "text": line.text}
        typer.echo(json.dumps(told) if as_json else f"{line.replica}  {line.text}")


def logs_command(
    name: Annotated[str, typer.Argument(help="The model.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, help="Last lines of each file; 0: all.")
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Prints what a model's replicas wrote, on whatever node they are.

    Also those that ended, that did not come up, and versions beside the live one.

    Examples:

        recmesh model logs cf

        recmesh model logs cf --follow -n 10
    """
    home = Home.from_environment()
    with clear_errors("recmesh model logs"):
        check_known(name)
        running = running_mesh(home)
        if running is None:
            raise ConfigurationError("no mesh runs here; start it with: recmesh up")
        try:
            with joined_cluster(home, running.ray_address):
                logs = ReplicaLogs(name)
                _say(logs.read(lines), as_json)
                while follow:
                    time.sleep(FOLLOWING_S)
                    _say(logs.read(), as_json)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
