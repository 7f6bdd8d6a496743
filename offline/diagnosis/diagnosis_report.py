"""A diagnosis with what it was made of, for people and for scripts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recmesh.offline.diagnosis.diagnose import ALPHA, Diagnosis
from recmesh.offline.diagnosis.finding import Finding, Measured, Severity
from recmesh.offline.diagnosis.serving_log import ServingLog

FINE = "fine"
"""Verdict on what is not found to be beyond its bound."""


@dataclass(frozen=True)
class DiagnosisReport:
    """What was looked at, and what it shows."""

    events: str
    """``recorded`` or ``ingested``."""
    starts: str
    """ISO 8601."""
    ends: str
    slots: int
    doctors: int
    decisions: int
    """Decision records that were read."""
    diagnosis: Diagnosis

    @classmethod
    def of(cls, log: ServingLog, diagnosis: Diagnosis, events: str) -> DiagnosisReport:
        """A report on a log."""
        return cls(
            events=events,
            starts=datetime.fromtimestamp(log.start_unix_s, UTC).isoformat(),
            ends=datetime.fromtimestamp(log.end_unix_s, UTC).isoformat(),
            slots=len(log.slots),
            doctors=len(np.unique(log.slots.doctor)),
            decisions=len(log.pages) if log.pages is not None else 0,
            diagnosis=diagnosis,
        )

    def verdict(self, check: str, subject: str) -> str:
        """``warning``, ``critical`` or ``fine``."""
        for finding in self.diagnosis.findings:
            if (finding.check, finding.measured.subject) == (check, subject):
                return finding.severity.value
        return FINE

    def worst(self) -> Severity | None:
        """Of the most severe finding; None: there is none."""
        return self.diagnosis.findings[0].severity if self.diagnosis.findings else None

    def as_json(self) -> str:
        """Alarms first, then everything that was measured; numbers unrounded."""
        diagnosis = self.diagnosis
        measured = [
            {
                "check": check,
                **_number(one),
                "p_adjusted": diagnosis.p_adjusted[check, one.subject],
                "verdict": self.verdict(check, one.subject),
            }
            for check, some in diagnosis.measured.items()
            for one in some
        ]
        too_few = [
            {"check": check, **asdict(one)}
            for check, some in diagnosis.too_few.items()
            for one in some
        ]
        said = {
            "events": self.events,
            "starts": self.starts,
            "ends": self.ends,
            "slots": self.slots,
            "doctors": self.doctors,
            "decisions": self.decisions,
            "false_discovery_rate": ALPHA,
            "alarms": [_alarm(finding) for finding in diagnosis.findings],
            "measured": measured,
            "too_few": too_few,
        }
        return json.dumps(_finite(said), indent=2, ensure_ascii=False, allow_nan=False)


def _alarm(finding: Finding) -> dict[str, Any]:
    one = finding.measured
    stands_out = bool(one.slices) and one.slices_p <= ALPHA
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        **{key: value for key, value in _number(one).items() if key not in ("slices", "series")},
        "p_adjusted": finding.p_adjusted,
        "worst_slice": asdict(one.slices[0]) if stands_out else None,
        "sentence": finding.sentence,
        "lever": finding.lever,
    }


def _number(one: Measured) -> dict[str, Any]:
    said = asdict(one)
    if one.trend is not None:
        said["trend"]["said"] = one.trend.said
    return said


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
