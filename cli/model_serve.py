"""``recmesh model serve``: one model over plain gRPC, without Ray, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.spoken_versions import SpokenVersions
from recmesh.deployments.telemetry import telemetry
from recmesh.deployments.tls_files import read_pair
from recmesh.models.folder import model_named
from recmesh.models.registry import loader
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

STOP_GRACE_S = 2.0


def _credentials(certificate: Path | None, key: Path | None) -> grpc.ServerCredentials | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("--tls-cert and --tls-key go together: give both, or neither")
    chain, private = read_pair(certificate, key)
    return grpc.ssl_server_credentials([(private, chain)])


async def _serve(
    home: Home,
    name: str,
    version: str,
    address: str,
    credentials: grpc.ServerCredentials | None,
    as_json: bool,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    artifact = await asyncio.to_thread(ArtifactStore(home.artifacts).load, name, version)
    methods = ModelMethods(await asyncio.to_thread(loader(name), artifact))
    await methods.warm_up()
    following = await SpokenVersions(home, methods).start() if name == EMBEDDER else None
    server = model_server(methods)
    port = await server.start(address, credentials)
    listens = f"{address.rpartition(':')[0]}:{port}"
    if as_json:
        said = {"model": name, "version": artifact.version, "address": listens}
        typer.echo(json.dumps(said | {"tls": credentials is not None}))
    else:
        secured = " with TLS" if credentials else ""
        Console().print(
            f"{name} {artifact.version} serves on [bold]{listens}[/bold]{secured}; Ctrl-C stops",
            highlight=False,
            soft_wrap=True,
        )
    await stopped.wait()
    await server.stop(STOP_GRACE_S)
    if following is not None:
        following.cancel()
    methods.close()


def serve_command(
    model: Annotated[str, typer.Argument(help="A model's name, or its folder.")],
    address: Annotated[str, typer.Option(help="host:port; port 0 is a free one.")] = "127.0.0.1:0",
    version: Annotated[str, typer.Option(help="Of its artifacts. Default: the live one.")] = "",
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain, PEM: the server speaks TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> None:
    """Serves one trained model over plain gRPC: ModelService, health and reflection.

    Without Ray, and without a mesh: to call it at home, to check it, or to run it at an address
    of its own that a mesh names as an external model. Ctrl-C and SIGTERM let calls in flight end.
    What it tells of itself is set as a mesh's: RECMESH_TELEMETRY__OTLP_ENDPOINT for spans,
    RECMESH_TELEMETRY__METRICS_PORT for metrics.

    Examples:

        recmesh model serve cf

        recmesh model serve ./models/cf --address 0.0.0.0:7000 --version 1f3870be274f6c49

        recmesh model serve cf --tls-cert server.pem --tls-key server.key --json
    """
    with clear_errors("recmesh model serve"):
        name = model_named(model)
        home = Home.from_environment()
        credentials = _credentials(tls_cert, tls_key)
        told = mesh_config(home).telemetry
        # People read what this prints; machines get the whole log.
        with telemetry(told, name, version=version, logs=told.log_format == "json"):
            asyncio.run(_serve(home, name, version, address, credentials, as_json))
