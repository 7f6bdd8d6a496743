"""Runs checks over a serving log, and raises what is beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.offline.diagnosis.check import Check, shown
from recmesh.offline.diagnosis.finding import Finding, Measured, Severity, TooFew
from recmesh.offline.diagnosis.registry import CHECKS
from recmesh.offline.diagnosis.serving_log import ServingLog
from recmesh.offline.experiments.multiplicity import benjamini_hochberg

ALPHA = 0.05
"""Share of false findings among all, at most in expectation."""
UNLIKE_P = 0.05


@dataclass(frozen=True)
class Diagnosis:
    """What a log shows."""

    findings: list[Finding]
    """Worst first."""
    measured: dict[str, list[Measured]]
    """By check, in the registry's order."""
    too_few: dict[str, list[TooFew]]
    p_adjusted: dict[tuple[str, str], float]
    """By check and subject."""


def diagnose(log: ServingLog, checks: Mapping[str, Check] = CHECKS) -> Diagnosis:
    """Runs all checks. What is found depends on nothing but the arguments.

    A finding's value is beyond what is allowed by more than chance explains: a one-sided test of
    each measured number against its bound, and Benjamini–Hochberg (1995) over all of them.
    """
    measured: dict[str, list[Measured]] = {}
    too_few: dict[str, list[TooFew]] = {}
    for name, check in checks.items():
        answers = check.run(log)
        measured[name] = [one for one in answers if isinstance(one, Measured)]
        too_few[name] = [one for one in answers if isinstance(one, TooFew)]
    everything = [(name, one) for name, some in measured.items() for one in some]
    adjusted = benjamini_hochberg(np.array([one.p for _, one in everything]))
    p_adjusted = {
        (name, one.subject): float(p) for (name, one), p in zip(everything, adjusted, strict=True)
    }
    findings = [
        _finding(checks[name], one, float(p))
        for (name, one), p in zip(everything, adjusted, strict=True)
        if p <= ALPHA and one.p < checks[name].most_p
    ]
    findings.sort(key=lambda one: (one.severity != Severity.CRITICAL, one.p_adjusted))
    return Diagnosis(findings, measured, too_few, p_adjusted)


def _finding(check: Check, one: Measured, p: float) -> Finding:
    beyond = one.low >= one.severe if one.worse == "above" else one.high <= one.severe
    return Finding(
        check=check.id,
        severity=Severity.CRITICAL if beyond else Severity.WARNING,
        measured=one,
        p_adjusted=p,
        sentence=sentence(check, one),
        lever=check.lever,
    )


def sentence(check: Check, one: Measured) -> str:
    """What was found, its interval, its trend and where it is worst, for people."""
    said = check.sentence.format(subject=one.subject, value=shown(one.value, check.unit))
    low, high = shown(one.low, check.unit), shown(one.high, check.unit)
    parts = [f"{said[:1].upper()}{said[1:].rstrip('.')} [{low.removesuffix(' times')}, {high}]"]
    if check.bounded:
        most = "most" if one.worse == "above" else "least"
        parts.append(f"allowed is at {most} {shown(one.allowed, check.unit)}")
    parts += _course(check, one)
    parts += [one.note] if one.note else []
    return "; ".join(parts) + "."


def _course(check: Check, one: Measured) -> Sequence[str]:
    """Its trend, and where it is worst."""
    parts = []
    if one.trend is not None:
        unit = check.level_unit or check.unit
        ends = f"from {shown(one.trend.first, unit)} to {shown(one.trend.second, unit)}"
        parts.append(f"{check.level} {one.trend.said}, {ends}".strip())
    if one.slices and one.slices_p <= UNLIKE_P:
        worst = one.slices[0]
        parts.append(f"worst in {worst.name} ({shown(worst.value, check.unit)})")
    elif one.slices:
        parts.append("no slice stands out")
    return parts
