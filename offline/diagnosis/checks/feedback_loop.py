"""Feedback loops: all doctors are shown ever more of the same, as clicks feed on exposure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import (
    Bounds,
    Rows,
    measure,
    ratio,
    relative_change,
)
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import Bool, Float64, ServingLog

BOUNDS = Bounds(allowed=1.25, severe=2.0, worse="above")


def _others(log: ServingLog, kept: Bool) -> Float64:
    """For every slot, the share of the other doctors' slots of that half with its item."""
    slots = log.slots
    late = slots.unix_s >= log.middle_unix_s
    share = np.zeros(len(slots))
    for half in (kept & ~late, kept & late):
        at = np.flatnonzero(half)
        counts = sparse.csr_matrix(
            (np.ones(len(at)), (slots.doctor[at], slots.item[at])),
            shape=(len(log.doctors), len(log.items)),
        )
        of_item = np.asarray(counts.sum(axis=0)).ravel()
        of_doctor = np.asarray(counts.sum(axis=1)).ravel()
        own = np.asarray(counts[slots.doctor[at], slots.item[at]]).ravel()
        others = of_doctor.sum() - of_doctor[slots.doctor[at]]
        share[at] = (of_item[slots.item[at]] - own) / np.maximum(others, 1.0)
    return share


def _reinforced(log: ServingLog, kept: Bool) -> str:
    """Whether what gained exposure is what was clicked: rank correlation over items."""
    slots = log.slots
    late = slots.unix_s >= log.middle_unix_s
    n = len(log.items)
    first = np.bincount(slots.item[kept & ~late], minlength=n).astype(np.float64)
    second = np.bincount(slots.item[kept & late], minlength=n).astype(np.float64)
    clicks = np.bincount(slots.item[kept & ~late & slots.clicked], minlength=n)
    seen = first >= 10
    if seen.sum() < 20:
        return ""
    gain = np.log((second[seen] + 1) / (first[seen] + 1))
    rate = clicks[seen] / first[seen]
    found = float(np.corrcoef(gain, rate)[0, 1]) if rate.std() and gain.std() else 0.0
    return f"correlation of an item's gain in exposure with its earlier click rate {found:+.2f}"


def feedback_loop(log: ServingLog) -> Sequence[Answer]:
    """How much more alike the pages of different doctors have become."""
    slots = log.slots
    kept = log.browsed
    share = _others(log, kept)
    columns = np.stack([share, np.ones(len(slots))], axis=1)
    rows = Rows(slots.doctor, slots.unix_s, slots.surface, columns).at(kept)
    return [
        measure(
            log,
            rows,
            ratio(),
            BOUNDS,
            change=relative_change(ratio()),
            note=_reinforced(log, kept),
            times=True,
        )
    ]


CHECK = Check(
    id="feedback-loop",
    title="Feedback loop",
    measures="Chance that slots of two different doctors hold the same item, second half of the "
    "period over the first.",
    source="homogenisation: Chaney, Stewart & Engelhardt, RecSys 2018; Mansoury et al., CIKM 2020",
    unit="times",
    sentence="Different doctors see the same items {value} as often as before.",
    lever="Train on clicks weighted against exposure, give exploration slots, raise novelty; "
    "slow down retraining until it stops.",
    run=feedback_loop,
    level="chance of the same item",
    level_unit="share",
)
