"""Calibration: a score's probability is how often such items are wanted."""

from __future__ import annotations

import numpy as np

from recmesh.offline.evaluation.calibration_fit import SHOWN_RATE
from recmesh.offline.metrics.relevance import Float64
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.result import NotCheckedError, Result, Status, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.orchestrator.blend import Calibration

BINS = 10
MOST_ERROR = 0.05


def errors(probabilities: Float64, wanted: Float64, weights: Float64) -> tuple[float, float, float]:
    """Expected calibration error over ten bins of equal weight, Brier score, and that of the rate.

    Args:
        probabilities: ``[n]``.
        wanted: 0 or 1 ``[n]``.
        weights: how often each is shown ``[n]``.
    """
    order = np.argsort(probabilities, kind="stable")
    p, y, w = probabilities[order], wanted[order], weights[order] / weights.sum()
    # Equal probabilities are one opinion, so they stay in one bin.
    _, first = np.unique(p, return_index=True)
    bins = np.minimum((np.cumsum(w) - w) * BINS, BINS - 1).astype(np.int64)
    bins = np.repeat(bins[first], np.diff(np.append(first, len(p))))
    gap = np.abs(np.bincount(bins, w * (p - y), BINS)).sum()
    rate = float(w @ y)
    return float(gap), float(w @ (p - y) ** 2), rate * (1 - rate)


async def calibration(subject: Subject) -> Result:
    """Probabilities against what was wanted later, at the rate at which shown items are."""
    said = subject.said.calibration
    if not said.raw_scores:
        raise NotCheckedError("it says no calibration; recmesh train fits one on held-out events")
    judged = subject.judged
    scores, period = judged.scores, judged.period
    kept = np.isfinite(scores)
    kept[period.seen.nonzero()] = False
    wanted = np.zeros(scores.shape, bool)
    wanted[period.wanted.nonzero()] = True
    y = wanted[kept].astype(np.float64)
    rate = float(y.mean()) if len(y) else 0.0
    if not 0 < rate < 1:
        raise NotCheckedError("nothing that it has an opinion on was wanted later")
    told = Calibration(
        np.array(said.raw_scores, np.float32), np.array(said.probabilities, np.float32)
    )(scores[kept])
    # What is shown is wanted far more often than what lies in the catalogue.
    weights = np.where(y > 0, SHOWN_RATE / rate, (1 - SHOWN_RATE) / (1 - rate))
    error, brier, of_rate = errors(told.astype(np.float64), y, weights)
    how = "the artifact on later events" if judged.as_served else "its training before them"
    if brier >= of_rate:
        return Result(
            Status.FAILED,
            f"its probabilities say less than the base rate does: Brier score {brier:.4f}, that "
            f"of the rate {of_rate:.4f} ({how})",
            "Fit the calibration on held-out events, with this model's own raw scores.",
            brier,
            of_rate,
            "Brier score",
        )
    return measured(
        error,
        MOST_ERROR,
        "calibration error",
        passed=f"Brier score {brier:.4f} against the base rate's {of_rate:.4f} ({how})",
        failed=f"its probabilities are off by {error:.3f} on average ({how})",
        fix="Fit the calibration again on held-out events: recmesh train does it.",
    )


CHECK = Check(
    id="calibration",
    title="Probabilities are frequencies",
    measures=f"Events later than what was learned: mean gap between probability and frequency over "
    f"{BINS} bins, at most {MOST_ERROR}; Brier score below the base rate's. Shown items are "
    f"wanted at a rate of {SHOWN_RATE}, to which events are weighed.",
    why="Blending adds probabilities of models: one that exaggerates takes over the page.",
    run=calibration,
    trains=True,
)
