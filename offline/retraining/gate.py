"""What a candidate must hold before it may serve: each rule, and the value that was found."""

from __future__ import annotations

from dataclasses import dataclass

from recmesh.offline.retraining.comparison import Comparison, Protocol
from recmesh.offline.retraining.sanity import Sanity
from recmesh.offline.retraining.shadow import Shadow


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of the gate."""

    largest_loss: float = 0.1
    """Share of the live version's nDCG@10 that the candidate's may be lower by, where the
    interval cannot tell them apart."""
    least_kept: float = 0.95
    """Share of the users and items with an opinion that must keep one."""
    largest_drift: float = 0.1
    """In probability. The policy's weights were chosen on calibrated scores as they are."""


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and whether it holds."""

    rule: str
    found: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}"


def quality_checks(comparison: Comparison, rules: Rules = RULES) -> list[Check]:
    """Whether the candidate is not worse than the live version."""
    if comparison.protocol is Protocol.FIRST:
        return []
    live, difference = comparison.live, comparison.difference
    if live is None or difference is None:
        rule = "compared with the live version"
        return [Check(rule, f"not possible: {comparison.why}", passed=False)]
    least = -rules.largest_loss * live.value
    return [
        Check(
            "nDCG@10, candidate − live: the 95% interval is not wholly below 0",
            f"[{difference.low:+.4f}, {difference.high:+.4f}] over {comparison.users} users",
            # Two that answer alike differ by exactly 0.
            difference.high >= 0,
        ),
        Check(
            f"nDCG@10, candidate − live: at least {least:+.4f}, "
            f"{rules.largest_loss:.0%} of the live version's",
            f"{difference.value:+.4f}",
            difference.value >= least,
        ),
    ]


def sanity_checks(sanity: Sanity, rules: Rules = RULES) -> list[Check]:
    """Whether the candidate answers as a model should, and for those it answered before."""

    def share(rule: str, value: float | None) -> list[Check]:
        if value is None:
            return []
        return [Check(rule, f"{value:.1%}", value >= rules.least_kept)]

    asked = f"{sanity.users} users × {sanity.items} items"
    checks = [
        Check(
            "no weight is NaN or infinite",
            f"{sanity.nonfinite_weights} are",
            sanity.nonfinite_weights == 0,
        ),
        Check(
            "no score is infinite",
            f"{sanity.infinite_scores} of {asked} are",
            sanity.infinite_scores == 0,
        ),
        Check(
            "it has an opinion on somebody",
            f"on {sanity.opinions:.1%} of {sanity.users} users",
            sanity.opinions > 0,
        ),
        Check(
            "it is calibrated, with at least 2 knots",
            f"{sanity.calibration_knots} knots",
            sanity.calibration_knots >= 2,
        ),
        *share(
            f"{rules.least_kept:.0%} of the users that the live version knows keep an opinion",
            sanity.users_kept,
        ),
        *share(
            f"{rules.least_kept:.0%} of the items that the live version knows keep one",
            sanity.items_kept,
        ),
    ]
    if sanity.drift is not None:
        checks.append(
            Check(
                "calibrated scores of what is proposed moved by at most "
                f"{rules.largest_drift} (Wasserstein-1)",
                f"{sanity.drift:.4f}",
                sanity.drift <= rules.largest_drift,
            )
        )
    return checks


def shadow_checks(shadow: Shadow) -> list[Check]:
    """Whether pages with the candidates are as whole as those with the live versions."""
    return [
        Check("no request fails", f"{shadow.errors} of {shadow.requests} do", shadow.errors == 0),
        Check(
            "no page is empty that is not empty now",
            f"{shadow.emptied} of {shadow.requests} are",
            shadow.emptied == 0,
        ),
        Check(
            "no page lacks what the page now has",
            f"{shadow.lacking} of {shadow.requests} do",
            shadow.lacking == 0,
        ),
    ]
