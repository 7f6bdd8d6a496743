"""Keeps the edge's access log small: one full file beside the one that is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

MOST_BYTES = 64 * 1024 * 1024
"""Some 200,000 calls; then the file is moved to ``.1``, over the one before."""
LOOK_S = 10.0


async def keep_small(
    file: Path,
    reopen: Callable[[], Awaitable[bool]],
    most_bytes: int = MOST_BYTES,
    look_s: float = LOOK_S,
) -> None:
    """Runs until cancelled. ``reopen`` has the writer go on in a new file."""
    while True:
        await asyncio.sleep(look_s)
        if _moved(file, most_bytes):
            await reopen()


def _moved(file: Path, most_bytes: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if file.stat().st_size >= most_bytes:
            file.replace(file.with_name(f"{file.name}.1"))
            return True
    return False
