"""What the commands that change a model's deployment share: who asks, and how they end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from recmesh.cli.actor import actor
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.deploying_progress import DeployingProgress
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.storage.home import Home


@contextmanager
def owners_command(command: str, by: str) -> Iterator[OwnersMesh]:
    """The mesh that the command works on.

    Ctrl-C and SIGTERM end what is being done in good order, with exit status 130; what is raised
    on purpose is said in the name of ``command``.
    """
    home = Home.from_environment()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with clear_errors(command):
            # Progress is not the answer, which scripts read.
            yield OwnersMesh.of(home, actor(by), DeployingProgress(Console(stderr=True)))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
