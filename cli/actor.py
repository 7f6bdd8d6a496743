"""Who changes something, for histories."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

By = Annotated[str, typer.Option(help="Who does it, for the history. Default: your user name.")]


def actor(by: str) -> str:
    """Who was named, or the user whose process this is."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
