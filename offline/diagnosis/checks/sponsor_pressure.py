"""Sponsor pressure: how much of what doctors see is paid for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, ratio
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import NOTHING, ServingLog

ALLOWED = 0.6
"""Of the policy's largest share: on average a page stays well below what one page may hold."""


def sponsor_pressure(log: ServingLog) -> Sequence[Answer]:
    """Share of the slots that campaigns pay for."""
    slots = log.slots
    paid = slots.campaign != NOTHING
    if not len(log.campaigns):
        return []
    rows = Rows(slots.doctor, slots.unix_s, slots.surface, columns_of(paid, np.ones(len(slots))))
    bounds = Bounds(ALLOWED * log.sponsored_share, log.sponsored_share, "above")
    return [measure(log, rows, ratio(), bounds)]


CHECK = Check(
    id="sponsor-pressure",
    title="Sponsor pressure",
    measures="Share of all slots that campaigns pay for; allowed is 0.6 of the policy's "
    "sponsored_share, which a single page may reach.",
    source="a share; the bound is this product's",
    unit="share",
    sentence="Campaigns pay for {value} of what doctors see.",
    lever="Lower slate.sponsored_share, campaigns.largest_price or campaigns.most_organic_loss; "
    "recmesh campaigns report says which campaigns want more than their reach has room for.",
    run=sponsor_pressure,
)
