"""What a check is: a pure function of a serving log, and what is said of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import ServingLog

Unit = Literal["times", "share", "number", "days"]


def shown(value: float, unit: Unit) -> str:
    """A number for people."""
    if unit == "times":
        return f"{value:.2f} times"
    if unit == "days":
        return f"{value:.1f} days"
    return f"{value:.1%}" if unit == "share" else f"{value:.3f}"


@dataclass(frozen=True)
class Check:
    """One failure mode, and how it is looked for."""

    id: str
    title: str
    measures: str
    """The number, one sentence."""
    source: str
    """Whose method it is."""
    unit: Unit
    sentence: str
    """Of a finding; names ``{value}``, and ``{subject}`` where there are several."""
    lever: str
    """What moves the number."""
    run: Callable[[ServingLog], Sequence[Answer]]
    most_p: float = 1.0
    """A finding's own p is below it, whatever else was measured."""
    bounded: bool = True
    """Whether the bound says more than the sentence."""
    level: str = ""
    """What the series and the trend are of, where that is not what is judged."""
    level_unit: Unit | None = None
