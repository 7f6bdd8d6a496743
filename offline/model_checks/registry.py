"""Every check of a model. Adding one is one file in ``checks/`` and one entry here."""

from __future__ import annotations

from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.checks import (
    batch_independence,
    calibration,
    cancellation,
    concurrency,
    contract,
    deadline,
    determinism,
    empty_inputs,
    finite,
    huge_inputs,
    latency,
    leakage,
    memory,
    ordering,
    quality,
    skew,
    unknown,
)

CHECKS: dict[str, Check] = {
    module.CHECK.id: module.CHECK
    for module in (
        contract,
        determinism,
        ordering,
        batch_independence,
        unknown,
        empty_inputs,
        huge_inputs,
        finite,
        deadline,
        cancellation,
        concurrency,
        memory,
        latency,
        skew,
        leakage,
        quality,
        calibration,
    )
}
"""By id, in the order in which they run."""
