"""Cold-start starvation: new items that nobody is shown, new doctors who are served worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import (
    LEAST_DOCTORS,
    Bounds,
    Rows,
    columns_of,
    measure,
    over,
    ratio,
)
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import DAY_S, Float64, ServingLog

NEW_ITEMS = Bounds(allowed=0.5, severe=0.2, worse="below")
NEW_DOCTORS = Bounds(allowed=0.6, severe=0.3, worse="below")
NEW_DAYS = 7.0
MOMENTS = 29


def supply_of_new(log: ServingLog) -> tuple[Float64, Float64]:
    """Moments ``[n]``, and the share of new items among all that is out then ``[n]``."""
    items = log.items
    moments = np.linspace(log.start_unix_s, log.end_unix_s, MOMENTS)
    share = np.empty(len(moments))
    for at, now in enumerate(moments):
        out = (items.published_unix_s <= now) & (items.expires_unix_s > now)
        new = out & (items.published_unix_s > now - NEW_DAYS * DAY_S)
        share[at] = new.sum() / max(out.sum(), 1)
    return moments, share


def _new_items(log: ServingLog) -> Answer:
    slots = log.slots
    age_days = (slots.unix_s - log.items.published_unix_s[slots.item]) / DAY_S
    weight = log.attention
    due = np.interp(slots.unix_s, *supply_of_new(log))
    rows = Rows(
        slots.doctor,
        slots.unix_s,
        slots.surface,
        columns_of(weight * (age_days < NEW_DAYS), weight * due),
    ).at(log.browsed)
    return measure(log, rows, ratio(), NEW_ITEMS, subject="new items", times=True)


def _rates(sums: Float64) -> Float64:
    """Click rate of new doctors over that of the others."""
    clicks, looks, others_clicks, others_looks = (sums[..., at] for at in range(4))
    return over(clicks * others_looks, looks * others_clicks)


def _new_doctors(log: ServingLog) -> Answer:
    slots = log.slots
    sizes = np.asarray(log.doctors.history.sum(axis=1)).ravel()
    new = sizes[slots.doctor] == 0
    weight = log.attention
    rows = Rows(
        slots.doctor,
        slots.unix_s,
        slots.surface,
        columns_of(new * slots.clicked, new * weight, ~new * slots.clicked, ~new * weight),
    ).at(log.browsed)
    fewest = min(len(np.unique(slots.doctor[kept & log.browsed])) for kept in (new, ~new))
    if fewest < LEAST_DOCTORS:
        return TooFew(
            "new doctors", f"{fewest} on one side of the comparison; needs {LEAST_DOCTORS}"
        )
    return measure(log, rows, _rates, NEW_DOCTORS, subject="new doctors", sliced=False, times=True)


def cold_start(log: ServingLog) -> Sequence[Answer]:
    """Exposure of new items against their share of the catalogue; clicks of new doctors."""
    return [_new_items(log), _new_doctors(log)]


CHECK = Check(
    id="cold-start",
    title="Cold-start starvation",
    measures="New items (7 days): their share of attention over their share of the catalogue. New "
    "doctors (no earlier event): clicks per attention over the others'.",
    source="exposure: Singh & Joachims 2018; cold start: Schein et al. 2002",
    unit="times",
    sentence="{subject} get {value} what would be theirs.",
    lever="New items: source fresh, freshness in objective_weights, nightly `recmesh retrain` and "
    "`recmesh index`. New doctors: popular and nlp in model_weights.",
    run=cold_start,
)
