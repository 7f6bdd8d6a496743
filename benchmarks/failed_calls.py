"""Requests that got no page, counted and said by code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from recmesh.cli.load_generation.load_row import LoadRow


def failed_calls(rows: Sequence[LoadRow]) -> Counter[str]:
    """How many, by code."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update({code: n for code, n in row.total.codes.items() if code != "OK"})
    return found


def said_by_code(failed: Mapping[str, int]) -> str:
    """For a cell of a table."""
    return ", ".join(f"{n} {code}" for code, n in failed.items()) or "0"
