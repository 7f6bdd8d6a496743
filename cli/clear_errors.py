"""How a command that fails on purpose ends: one line of why, and exit status 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from recmesh.storage.errors import RecMeshError


@contextmanager
def clear_errors(command: str) -> Iterator[None]:
    """Says what is raised on purpose inside, in the name of ``command``."""
    try:
        yield
    except RecMeshError as error:
        typer.echo(f"{command}: {error}", err=True)
        raise typer.Exit(1) from error
