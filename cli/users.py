"""``recmesh users``: erases doctors everywhere, and proves it."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.local_writer import local_writer
from recmesh.deployments.edge_channel import Edge, edge_of
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.validation import validate
from recmesh.storage.erasure import ErasureCheck, search_files
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import catalog_pb2, catalog_pb2_grpc

TIMEOUT_S = 60.0

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Erase doctors everywhere, and prove it."
)


@app.callback()
def _users() -> None:
    """Erase doctors everywhere, and prove it."""


def _by_mesh(
    edge: Edge, request: catalog_pb2.DeleteUsersRequest
) -> catalog_pb2.DeleteUsersResponse:
    with edge.channel() as channel:
        try:
            return catalog_pb2_grpc.CatalogServiceStub(channel).DeleteUsers(
                request, timeout=TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise UnavailableError(
                f"the mesh on {edge.address} answered {error.code().name}: {error.details()}"
            ) from error


async def _here(
    home: Home, request: catalog_pb2.DeleteUsersRequest
) -> catalog_pb2.DeleteUsersResponse:
    """Without a mesh, this process is the catalog's writer."""
    validate(request)
    writer = local_writer(home)
    try:
        await writer.start()
        answer = await writer.methods.offered["DeleteUsers"](request, math.inf)
        assert isinstance(answer, catalog_pb2.DeleteUsersResponse)
        return answer
    finally:
        await writer.close()


@app.command("erase")
def erase_command(
    user_ids: Annotated[list[str], typer.Argument(help="Ids of the users.")],
    prove: Annotated[
        bool, typer.Option(help="Also read every file of the home folder for the ids.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase users from every store: profile, history, edges, future training data.

    Only a salted hash of each id stays, so that old files do not bring them back. Erasing
    again finds nothing left and is no error. Exits with 1 when anything is left.

    Examples:

        recmesh users erase d000042

        recmesh users erase d000042 d000043 --prove --json
    """
    home = Home.from_environment()
    request = catalog_pb2.DeleteUsersRequest(user_ids=user_ids)
    try:
        running = running_mesh(home)
        answer = _by_mesh(edge_of(home), request) if running else asyncio.run(_here(home, request))
        checks = [ErasureCheck(c.store, c.remaining, c.note) for c in answer.checks]
        if prove:
            checks += search_files(home, user_ids)
    except RecMeshError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    if as_json:
        found = [
            {"store": c.store, "remaining": c.remaining, **({"note": c.note} if c.note else {})}
            for c in checks
        ]
        typer.echo(json.dumps({"deleted": answer.deleted, "checks": found}, indent=2))
    else:
        _print(answer.deleted, checks)
    if any(check.remaining for check in checks):
        raise typer.Exit(1)


def _print(deleted: int, checks: list[ErasureCheck]) -> None:
    table = Table("store", "remaining", "note", title=f"{deleted} users were there")
    for check in checks:
        colour = "red" if check.remaining else "green"
        remaining = f"[{colour}]{check.remaining}[/{colour}]"
        table.add_row(escape(check.store), remaining, escape(check.note))
    Console().print(table)
