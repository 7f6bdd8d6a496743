"""The call that is being answered: what lines of the log, spans and measures say of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class CurrentCall:
    """Shared by everything that is done for the call."""

    surface: str = ""
    """One that the policy has; empty while none is known. Never what a caller wrote."""
    request_id: str = ""
    trace_id: str = ""
    """32 hexadecimal digits; empty: the call is not traced."""


CURRENT_CALL: ContextVar[CurrentCall | None] = ContextVar("recmesh_current_call", default=None)


def current_surface() -> str:
    """The surface of the call that is being answered; empty: none is known."""
    call = CURRENT_CALL.get()
    return call.surface if call is not None else ""


def identify(request_id: str, surface: str = "") -> None:
    """Says whose call this is from here on; an empty ``surface`` leaves the one that is known."""
    call = CURRENT_CALL.get()
    if call is None:
        call = CurrentCall()
        CURRENT_CALL.set(call)
    call.request_id = request_id
    call.surface = surface or call.surface
