"""``recmesh edge``: credentials of callers of a secure mesh."""

from __future__ import annotations

from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home

edge_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Get development credentials for callers."
)


@edge_app.callback()
def _edge() -> None:
    """Get development credentials for callers."""


@edge_app.command("token")
def token_command(
    caller: Annotated[str, typer.Argument(help="Name of a table [callers.NAME].")],
    hours: Annotated[float, typer.Option(help="It is good for, at most 720.")] = 1.0,
) -> None:
    """Print a bearer token for a caller, signed with the home folder's development key.

    For tools that cannot hold a certificate. Whoever has it is the caller until it ends: nothing
    takes it back but a new signing key, or the caller's removal from the configuration.

    Examples:

        recmesh edge token operator

        curl --cacert .recmesh/credentials/authority.pem https://127.0.0.1:50051/recmesh.v1.RecommendationService/Recommend -H "authorization: Bearer $(recmesh edge token operator)" -d '{"surface": "feed", "user_id": "d42"}'
    """  # noqa: E501 - one line, to be copied
    home = Home.from_environment()
    with clear_errors("edge token"):
        config = mesh_config(home)
        table = config.callers.get(caller)
        if table is None:
            raise NotFoundError(
                f"there is no [callers.{caller}]; there are {', '.join(config.callers) or 'none'}"
            )
        edge = config.edge
        made = DevelopmentCredentials(home.credentials).token(
            table.identity(caller), edge.token_issuer, edge.token_audience, hours
        )
        typer.echo(made)
