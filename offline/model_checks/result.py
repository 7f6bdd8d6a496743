"""What a check of a model found: a status, a number against its limit, and what to fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

MOST_SAID = 3
"""Broken rules that one result spells out; the others are counted."""


class Status(StrEnum):
    """How a check ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    NOT_CHECKED = "NOT CHECKED"


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found."""

    status: Status
    said: str
    """What was seen, one sentence; of :attr:`Status.NOT_CHECKED`, why nothing was."""
    fix: str = ""
    """What the owner is to do; of failures only."""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    bound: Literal["at most", "above"] = "at most"

    @property
    def number(self) -> str:
        """The value against its limit, for people; empty without one."""
        if self.value is None or self.limit is None:
            return ""
        unit = f" {self.unit}" if self.unit else ""
        return f"{_shown(self.value)}{unit}, {self.bound} {_shown(self.limit)}"


def _shown(number: float) -> str:
    return f"{number:,.0f}" if 1000 <= abs(number) < math.inf else f"{number:.3g}"


def measured(
    value: float,
    limit: float,
    unit: str,
    *,
    passed: str,
    failed: str,
    fix: str,
    bound: Literal["at most", "above"] = "at most",
) -> Result:
    """Holds a number to its limit; a number that is none fails."""
    good = value <= limit if bound == "at most" else value > limit
    if good:
        return Result(Status.PASSED, passed, "", value, limit, unit, bound)
    return Result(Status.FAILED, failed, fix, value, limit, unit, bound)


class NotCheckedError(Exception):
    """A check cannot be made here; the message says why."""


@dataclass(slots=True)
class Rules:
    """Counts rules that hold and rules that are broken."""

    held: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def hold(self, good: bool, said: str, fix: str) -> None:
        """One rule: whether it holds, what was seen where it does not, and what to do then."""
        if good:
            self.held += 1
        elif (said, fix) not in self.broken:
            self.broken.append((said, fix))

    def result(self, passed: str) -> Result:
        """Fails with all that is broken, the first few in words."""
        said = "; ".join(said for said, _ in self.broken[:MOST_SAID])
        if len(self.broken) > MOST_SAID:
            said += f"; and {len(self.broken) - MOST_SAID} more"
        fixes: Sequence[str] = list(dict.fromkeys(fix for _, fix in self.broken))[:MOST_SAID]
        return measured(
            len(self.broken),
            0,
            f"of {self.held + len(self.broken)} rules broken",
            passed=passed,
            failed=said,
            fix=" ".join(fixes),
        )
