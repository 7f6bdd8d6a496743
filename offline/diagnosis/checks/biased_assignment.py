"""A biased assignment: arms of other sizes than they should have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import LEVEL
from recmesh.offline.diagnosis.finding import Answer, Measured, TooFew
from recmesh.offline.diagnosis.serving_log import Assignment, ServingLog
from recmesh.offline.experiments.analysis import MISMATCH_P, sample_ratio

LEAST_DOCTORS = 100


def biased_assignment(log: ServingLog) -> Sequence[Answer]:
    """The sample ratio of every experiment."""
    return [_of(assignment) for assignment in log.assignments]


def _of(assignment: Assignment) -> Answer:
    subject = f"experiment {assignment.experiment}"
    doctors = len(assignment.arm)
    if doctors < LEAST_DOCTORS:
        return TooFew(subject, f"{doctors} doctors; needs {LEAST_DOCTORS}")
    counts = np.bincount(assignment.arm, minlength=len(assignment.shares))
    units = {arm: int(count) for arm, count in zip(assignment.shares, counts, strict=True)}
    found = sample_ratio(units, assignment.shares)
    share = np.array(list(assignment.shares.values()))
    worst = int(np.argmax(np.abs(counts - share * doctors)))
    name = list(assignment.shares)[worst]
    # The arm that is furthest off, with a Wilson interval (Wilson 1927).
    low, high = stats.binomtest(int(counts[worst]), doctors).proportion_ci(LEVEL, "wilson")
    return Measured(
        subject=subject,
        value=float(counts[worst] / doctors),
        low=float(low),
        high=float(high),
        allowed=float(share[worst]),
        severe=float(share[worst]),
        worse="above" if counts[worst] > share[worst] * doctors else "below",
        p=found.p,
        doctors=doctors,
        note=f"arm {name} should have {share[worst]:.1%}; chi-square p = {found.p:.2g}",
    )


CHECK = Check(
    id="biased-assignment",
    title="A biased assignment",
    measures="Doctors of the arm that is furthest from its share.",
    source=f"sample ratio mismatch, p < {MISMATCH_P}: Fabijan et al., KDD 2019",
    unit="share",
    sentence="{subject} has an arm with {value} of its doctors, and that is no chance: believe "
    "none of its results.",
    lever="Look for what loses doctors of one arm: errors, redirects, caches, bots, changed "
    "shares. Restart the experiment under a new name.",
    run=biased_assignment,
    most_p=MISMATCH_P,
    bounded=False,
)
