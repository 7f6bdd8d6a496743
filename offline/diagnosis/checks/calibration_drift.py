"""Calibration drift: a model whose scores promise other click rates than before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import (
    Bounds,
    Rows,
    columns_of,
    measure,
    ratio,
    relative_change,
)
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import Float64, ServingLog

BOUNDS = Bounds(allowed=1.5, severe=2.5, worse="above")


def _factor(before: Float64, after: Float64) -> Float64:
    """How many times clicks over promised clicks changed, up or down, at least 1."""
    change = relative_change(ratio())(before, after)
    return np.asarray(np.exp(np.abs(np.log(np.where(change > 0, change, np.nan)))), np.float64)


def calibration_drift(log: ServingLog) -> Sequence[Answer]:
    """One number for every scorer."""
    if not log.scorers:
        return [TooFew("", "no decision records: recorded events have no scores")]
    slots = log.slots
    answers: list[Answer] = []
    for at, name in enumerate(log.scorers):
        score = slots.scores[:, at].astype(np.float64)
        rows = Rows(
            slots.doctor,
            slots.unix_s,
            slots.surface,
            columns_of(slots.clicked, np.nan_to_num(score) * log.attention),
        ).at(np.isfinite(score))
        answers.append(measure(log, rows, ratio(), BOUNDS, change=_factor, subject=f"model {name}"))
    return answers


CHECK = Check(
    id="calibration-drift",
    title="Calibration drift",
    measures="Clicks over what a model's calibrated scores promised (weighted by attention to "
    "the rank): how many times that ratio changed between the halves, up or down.",
    source="calibration in the large: observed over expected, Van Calster et al. 2019",
    unit="times",
    sentence="What {subject} promises and what is clicked have moved apart by {value}.",
    lever="Fit its calibration anew: recmesh retrain, or recmesh train MODEL.",
    run=calibration_drift,
    level="clicks over promised",
    level_unit="number",
)
