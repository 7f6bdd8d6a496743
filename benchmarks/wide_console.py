"""Where benchmarks print their tables."""

from __future__ import annotations

from rich.console import Console


def wide_console(width: int) -> Console:
    """The terminal as wide as it is; a file or pipe has so many columns, so that no cell is cut."""
    console = Console()
    if not console.is_terminal:
        console.width = width
    return console
