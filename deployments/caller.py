"""Who makes a call, as the edge found out and says in metadata."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

CALLER_KEY = "x-recmesh-caller"
"""Metadata: the caller's name in the configuration. The edge alone sets it."""
MESH_TOKEN_KEY = "x-recmesh-mesh-token"
"""Metadata: proves that a call comes from inside the mesh."""

_CURRENT: ContextVar[str] = ContextVar("caller", default="")


def current_caller() -> str:
    """Who made the call that is being answered; empty: the edge does not know, or there is none."""
    return _CURRENT.get()


def set_current_caller(metadata: Iterable[tuple[str, Any]] | None) -> None:
    """Takes the caller from a call's metadata, for the task that answers it."""
    for key, value in metadata or ():
        if key == CALLER_KEY:
            _CURRENT.set(str(value))
            return
    _CURRENT.set("")
