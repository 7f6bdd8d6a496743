"""A starving specialty: doctors who see less of their own field than they turn to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, over
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import Bool, Float64, ServingLog

BOUNDS = Bounds(allowed=0.7, severe=0.4, worse="below")
LEAST_HISTORY = 3
LEAST_DOCTORS_OF_FIELD = 10


def _against_others(sums: Float64) -> Float64:
    """Own field shown over own field wanted: of this specialty, over that of the others."""
    shown, wanted, others_shown, others_wanted = (sums[..., at] for at in range(4))
    return over(shown * others_wanted, wanted * others_shown)


def _own_field(log: ServingLog) -> tuple[Bool, Float64]:
    """Whether each slot's item is of the doctor's field, and that share of each history."""
    slots, doctors, items = log.slots, log.doctors, log.items
    of_item = items.specialties.tocsr()
    matches = np.zeros(len(slots), bool)
    wanted = np.full(len(doctors), np.nan)
    sizes = np.asarray(doctors.history.sum(axis=1)).ravel()
    for field in np.unique(doctors.specialty[doctors.specialty >= 0]).tolist():
        of_field = np.asarray(of_item[:, field].todense()).ravel() > 0
        own = doctors.specialty == field
        at = own[slots.doctor]
        matches[at] = of_field[slots.item[at]]
        turned = np.asarray(doctors.history[own] @ of_field.astype(np.float64)).ravel()
        wanted[own] = np.where(
            sizes[own] >= LEAST_HISTORY, turned / np.maximum(sizes[own], 1), np.nan
        )
    return matches, wanted


def starving_specialty(log: ServingLog) -> Sequence[Answer]:
    """One number for every specialty."""
    slots, doctors = log.slots, log.doctors
    matches, wanted = _own_field(log)
    usual = wanted[slots.doctor]
    kept = log.browsed & np.isfinite(usual)
    answers: list[Answer] = []
    for field, name in enumerate(doctors.specialty_names):
        own = doctors.specialty[slots.doctor] == field
        subject = f"specialty {name}"
        of_field = len(np.unique(slots.doctor[own & kept]))
        if of_field < LEAST_DOCTORS_OF_FIELD:
            if of_field:
                answers.append(
                    TooFew(subject, f"{of_field} doctors; needs {LEAST_DOCTORS_OF_FIELD}")
                )
            continue
        rows = Rows(
            slots.doctor,
            slots.unix_s,
            slots.surface,
            columns_of(own * matches, own * usual, ~own * matches, ~own * usual),
        ).at(kept)
        answers.append(
            measure(log, rows, _against_others, BOUNDS, subject=subject, sliced=False, times=True)
        )
    return answers


CHECK = Check(
    id="starving-specialty",
    title="A starving specialty",
    measures="Own field's share of a specialty's slots over its share of their history, against "
    "the same of all other specialties.",
    source="calibration to the history: Steck 2018; against others: Burke 2017 (consumer fairness)",
    unit="times",
    sentence="Doctors of {subject} see {value} as much of their own field as other doctors do, "
    "each against what they turned to before.",
    lever="See whether the field's items are indexed, licensed and not blocked (recmesh index, "
    "policy blocks); then raise calibration_weight.",
    run=starving_specialty,
)
