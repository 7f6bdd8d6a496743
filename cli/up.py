"""``recmesh up``: the mesh on a Ray cluster behind one port, until Ctrl-C or ``recmesh down``."""

from __future__ import annotations

import asyncio
import json as json_text
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recmesh.cli.deploying_progress import DeployingProgress
from recmesh.cli.sample_slates import print_sample_slates
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.applications import DEPLOY_TIMEOUT_S, OURS, RUNNING, Watch, deploy
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.edge_channel import edge_of
from recmesh.deployments.edge_files import make_credentials
from recmesh.deployments.mesh_config import DEFAULT_CONFIG, MeshConfig
from recmesh.deployments.mesh_host import (
    HostedMesh,
    hosted_mesh,
    targets,
)
from recmesh.deployments.mesh_record import MeshRecord, only_mesh, running_mesh
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.ray_tls import start_again_with, tls_variables
from recmesh.storage.errors import ConfigurationError, NotFoundError, RecMeshError, UnavailableError
from recmesh.storage.home import Home

DETACHED_TIMEOUT_S = 180.0
POLL_S = 0.2
RELOAD = signal.SIGUSR1
"""Tells the process that holds a secure mesh that callers have changed."""


def _print_mesh(console: Console, record: MeshRecord, failed: Sequence[str]) -> None:
    how = " to callers of the configuration, in TLS" if record.secure else ""
    console.print(f"serving on [bold]{record.address}[/bold]{how}")
    if failed:
        console.print(f"  [yellow]without[/yellow] {', '.join(failed)}; see: recmesh status")
    console.print("  recmesh call USER, recmesh status, recmesh down", style="dim")


async def _host(file: Path, home: Home, samples: bool, as_json: bool, secure: bool) -> None:
    """Serves until SIGINT or SIGTERM; either also ends a start half done, in good order."""
    console = Console(stderr=as_json)
    serving = asyncio.create_task(_serve(file, home, samples, as_json, console, secure))
    stopping = False

    def stop() -> None:
        nonlocal stopping
        # Once: a second time it would cut off what the first one puts in order.
        if not stopping:
            stopping = True
            console.print("stopping")
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        if not stopping:
            raise


async def _serve(
    file: Path, home: Home, samples: bool, as_json: bool, console: Console, secure: bool
) -> None:
    config = MeshConfig.load(file, home, secure=secure)
    loop = asyncio.get_running_loop()
    # Until there is something to reload: the signal would end the process.
    loop.add_signal_handler(RELOAD, lambda: None)
    async with hosted_mesh(config, file, home, DeployingProgress(console)) as mesh:
        _announce(console, mesh, as_json)
        loop.add_signal_handler(RELOAD, mesh.reload)
        if samples:
            surfaces = served_policy(home).surfaces
            dataset = current_dataset(home)
            await asyncio.to_thread(print_sample_slates, console, edge_of(home), dataset, surfaces)
            console.print("Ctrl-C stops")
        await asyncio.Event().wait()


def _announce(console: Console, mesh: HostedMesh, as_json: bool) -> None:
    _print_mesh(console, mesh.record, mesh.record.failed)
    if as_json:
        _print_json(mesh.record, mesh.record.failed)


def _print_json(record: MeshRecord, failed: Sequence[str]) -> None:
    said = {"address": record.address, "secure": record.secure, "failed": list(failed)}
    typer.echo(json_text.dumps(said))


def _ray_variables(file: Path, home: Home, secure: bool) -> dict[str, str]:
    """What the process that holds the mesh must be started with."""
    config = MeshConfig.load(file, home, secure=secure)
    if not config.edge.secure or config.ray.address:
        return {}
    DevelopmentCredentials(home.credentials).make_ray()
    return tls_variables(home)


def _detach(file: Path, home: Home, secure: bool) -> MeshRecord:
    """Starts the mesh in a process of its own and waits until it serves."""
    with only_mesh(home):
        log = home.run / "mesh.log"
        output = log.open("wb")
    command = [sys.executable, "-m", "recmesh.cli.main", "up", "--config", str(file)]
    with output:
        process = subprocess.Popen(
            [*command, "--secure"] if secure else command,
            env={**os.environ, **_ray_variables(file, home, secure)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with Console(stderr=True).status("starting the mesh"):
            return _once_up(process, home, log)
    except BaseException:
        # Whoever gives up waiting, with Ctrl-C too, wants no mesh.
        process.terminate()
        raise


def _once_up(process: subprocess.Popen[bytes], home: Home, log: Path) -> MeshRecord:
    end_s = time.monotonic() + DETACHED_TIMEOUT_S
    while time.monotonic() < end_s:
        record = running_mesh(home)
        if record is not None and record.pid == process.pid:
            return record
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip().splitlines()
            last = words[-1].removeprefix("error: ") if words else "it ended"
            raise UnavailableError(f"{last} (log: {log})")
        time.sleep(POLL_S)
    raise UnavailableError(f"not up after {DETACHED_TIMEOUT_S:.0f} s; see {log}")


def apply(
    running: MeshRecord, names: Sequence[str], file: Path, home: Home, progress: Watch
) -> list[str]:
    """Deploys into the running mesh; returns the applications that do not run.

    ``names`` of models and of the mesh's own applications; none: all.

    Raises:
        ConfigurationError: ``file`` has no such model.
        NotFoundError: there is nothing to deploy.
        UnavailableError: the cluster does not answer.
    """
    config = MeshConfig.load(file, home, secure=running.secure)
    unknown = [n for n in names if n not in OURS and n not in config.models]
    if unknown:
        raise ConfigurationError(
            f"{file} has no model {', '.join(unknown)}; it has {', '.join(config.models)}"
        )
    with joined_cluster(home, running.ray_address):
        wanted = [
            target
            for target in targets(config, home, running.index_uri)
            if not names or target.name.removeprefix("model-") in names
        ]
        if not wanted:
            raise NotFoundError(f"nothing to deploy of {', '.join(names)}; run: recmesh train")
        if config.edge.secure and not config.edge.certificate:
            make_credentials(config, home)
        states = deploy(wanted, DEPLOY_TIMEOUT_S, lambda now: progress("deploying", now))
    if config.edge.secure and not names:
        # After the orchestrators, which must know a caller before it can come.
        os.kill(running.pid, RELOAD)
    return [state.name for state in states if state.state != RUNNING]


def up_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="With a running mesh: deploy only these, at their live versions."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="What runs. Default: deployments/mesh.toml, packaged.")
    ] = None,
    detach: Annotated[bool, typer.Option(help="Serve in the background.")] = False,
    show_slates: Annotated[
        bool, typer.Option("--show-slates", help="Print one page per surface when up.")
    ] = False,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure",
            help="Callers must say who they are, in TLS. Makes development certificates.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the address as JSON.")] = False,
) -> None:
    """Run the mesh, or bring a running one up to date.

    Starts Ray, Milvus, every model, the orchestrator and the edge, and serves until Ctrl-C.
    With a mesh that runs already, replaces every replica, or those of the models named, and
    returns: for a model's newly trained version, new data, another policy or configuration.
    No request fails meanwhile.

    Examples:

        recmesh up

        recmesh up --detach && recmesh call d42

        recmesh train cf && recmesh up cf

        recmesh up --secure --detach && recmesh call d42
    """
    home = Home.from_environment()
    console = Console(stderr=as_json)
    try:
        running = running_mesh(home)
        if running is not None:
            if secure and not running.secure:
                raise ConfigurationError(
                    "the mesh that runs here is not secure; start it anew: "
                    "recmesh down, then recmesh up --secure"
                )
            file = config or Path(running.config)
            failed = apply(running, models or [], file, home, DeployingProgress(console))
            _print_mesh(console, running, failed)
            if as_json:
                _print_json(running, failed)
            if failed:
                raise typer.Exit(1)
        elif models:
            raise ConfigurationError("no mesh runs here yet; start it with: recmesh up")
        elif detach:
            record = _detach((config or DEFAULT_CONFIG).resolve(), home, secure)
            _print_mesh(console, record, record.failed)
            if as_json:
                _print_json(record, record.failed)
        else:
            file = (config or DEFAULT_CONFIG).resolve()
            start_again_with(_ray_variables(file, home, secure))
            asyncio.run(_host(file, home, show_slates, as_json, secure))
    except RecMeshError as error:
        # Not wrapped: the last line of a log must say all of it.
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
