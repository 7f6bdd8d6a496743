"""How an exception is logged: where it arose and what it is, not what it says.

Messages quote what callers wrote, and printed locals hold whole requests. Errors of our own tree
are written to be read, by callers too, and are said in full.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from recmesh.storage.errors import RecMeshError

MOST_FRAMES = 12


def _frames(error: BaseException) -> list[str]:
    found = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return [f"{'/'.join(Path(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in found]


def told(error: BaseException) -> str:
    """An exception and what caused it, in one line: types and places."""
    said: list[str] = []
    link: BaseException | None = error
    while link is not None and len(said) < MOST_FRAMES:
        name = type(link).__name__
        what = f"{name}: {link}" if isinstance(link, RecMeshError) else name
        said.append(" < ".join([what, *reversed(_frames(link))]))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return " | because of ".join(said)


def without_messages(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: an exception becomes :func:`told`, under ``exception``."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    if isinstance(given, tuple):
        error = given[1]
    if error is not None:
        event["exception"] = told(error)
    return event
