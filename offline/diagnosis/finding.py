"""What a check measured, and what a diagnosis makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Worse = Literal["above", "below"]


class Severity(StrEnum):
    """How bad a finding is; later is worse."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Part:
    """A number with its 95% interval: of a slice, or of a stretch of time."""

    name: str
    """Of the slice; of a stretch its middle, ISO 8601."""
    value: float
    low: float
    high: float
    doctors: int


@dataclass(frozen=True, slots=True)
class Trend:
    """What changed from the period's first half to its second."""

    first: float
    second: float
    change: float
    low: float
    high: float
    """95% interval of the change."""

    @property
    def said(self) -> str:
        """``rising``, ``falling``, or ``steady`` where the change is not clear of 0."""
        return "rising" if self.low > 0 else "falling" if self.high < 0 else "steady"


@dataclass(frozen=True, slots=True)
class Measured:
    """One number of a check, for one subject."""

    subject: str
    """What it is of, such as ``model cf``; empty: everything."""
    value: float
    low: float
    high: float
    """95% interval."""
    allowed: float
    """The bound that a finding must be beyond, with evidence."""
    severe: float
    """The bound beyond which a finding is critical."""
    worse: Worse
    """On which side of the bounds trouble lies."""
    p: float
    """One-sided, of a value no worse than ``allowed``."""
    doctors: int
    note: str = ""
    """What else a reader should know, one clause."""
    trend: Trend | None = None
    series: tuple[Part, ...] = ()
    """Over time."""
    slices: tuple[Part, ...] = ()
    """Worst first."""
    slices_p: float = 1.0
    """That all slices are alike (Cochran 1954)."""

    def times_allowed(self, value: float) -> float:
        """A value against the bound: above 1 is beyond it, on whichever side trouble lies."""
        over, under = (value, self.allowed) if self.worse == "above" else (self.allowed, value)
        return over / max(under, 1e-9)

    @property
    def urgency(self) -> tuple[float, float]:
        """Orders numbers, the worst first."""
        return self.p, -self.times_allowed(self.value)


@dataclass(frozen=True, slots=True)
class TooFew:
    """What a check could not judge, and why."""

    subject: str
    why: str


Answer = Measured | TooFew


@dataclass(frozen=True, slots=True)
class Finding:
    """A failure mode that the log shows beyond chance."""

    check: str
    severity: Severity
    measured: Measured
    p_adjusted: float
    """After Benjamini–Hochberg over everything that was measured."""
    sentence: str
    lever: str
    """What moves the number."""
