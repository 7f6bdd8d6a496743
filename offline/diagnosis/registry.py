"""Every check. Adding one is one file in ``checks/`` and one entry here."""

from __future__ import annotations

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.checks import (
    biased_assignment,
    calibration_drift,
    cold_start,
    embedding_drift,
    fallback_share,
    feedback_loop,
    filter_bubble,
    over_paced_campaign,
    popularity_bias,
    score_drift,
    short_slates,
    sponsor_pressure,
    stale_content,
    starving_specialty,
)

CHECKS: dict[str, Check] = {
    module.CHECK.id: module.CHECK
    for module in (
        filter_bubble,
        popularity_bias,
        feedback_loop,
        stale_content,
        cold_start,
        starving_specialty,
        sponsor_pressure,
        over_paced_campaign,
        fallback_share,
        short_slates,
        score_drift,
        calibration_drift,
        embedding_drift,
        biased_assignment,
    )
}
"""By id, in the order of reports."""
