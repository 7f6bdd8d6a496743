"""What the edge says of a call in metadata: who makes it, how much it matters, its time."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TypeAlias

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

CALLER_KEY = "x-recmesh-caller"
"""Metadata: the caller's name in the configuration. The edge alone sets it."""
MESH_TOKEN_KEY = "x-recmesh-mesh-token"
"""Metadata: proves that a call comes from inside the mesh."""
EVENT_CALLERS_KEY = "x-recmesh-event-callers"
"""Metadata: names, with commas between, that the caller records events as, beside its own. The edge
alone sets it."""
PRIORITY_KEY = "x-recmesh-priority"
"""Metadata: how much a call matters: critical, normal or batch."""
GIVEN_KEY = "x-recmesh-timeout"
"""Metadata: how long a call was given when it reached the edge, as gRPC writes it: 500m."""

_CURRENT: ContextVar[str] = ContextVar("caller", default="")
_EVENT_CALLERS: ContextVar[tuple[str, ...]] = ContextVar("event-callers", default=())


def current_caller() -> str:
    """Who made the call that is being answered; empty: the edge does not know, or there is none."""
    return _CURRENT.get()


def current_event_callers() -> tuple[str, ...]:
    """Names that :func:`current_caller` records events as, beside its own."""
    return _EVENT_CALLERS.get()


def said(metadata: Metadata | None, key: str) -> str | bytes:
    """What a call's metadata say under a key; empty: nothing."""
    return next((value for found, value in metadata or () if found == key), "")


def set_current_caller(metadata: Metadata | None) -> None:
    """Takes the caller from a call's metadata, for the task that answers it."""
    _CURRENT.set(str(said(metadata, CALLER_KEY)))
    names = str(said(metadata, EVENT_CALLERS_KEY))
    _EVENT_CALLERS.set(tuple(names.split(",")) if names else ())
