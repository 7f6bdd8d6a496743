"""Who pays for what in a trial is who pays on a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from recmesh.offline.evaluation.period import Period
from recmesh.offline.tuning.sponsorship import paid_value
from recmesh.orchestrator.catalog import item_catalog
from tests.small_world import NOW_UNIX_S, dataset, table

NOW = datetime.fromtimestamp(NOW_UNIX_S, UTC)
CAMPAIGN: dict[str, Any] = {
    "campaign_id": "c",
    "sponsor": "s",
    "item_ids": ["i2", "i3", "unknown"],
    "starts_at": NOW - timedelta(days=1),
    "ends_at": NOW + timedelta(days=1),
    "budget_impressions": 10,
    "value": 0.5,
}
USERS = [
    {"user_id": "french", "country": "FR", "specialties": ["gp"]},
    {"user_id": "german", "country": "DE", "specialties": ["gp"]},
    {"user_id": "nowhere", "specialties": ["gp"]},
    {"user_id": "refusing", "country": "FR", "specialties": ["gp"], "consents_sponsored": False},
]


@pytest.mark.parametrize(
    ("campaign", "reached"),
    [
        ({}, ["french", "german", "nowhere"]),
        ({"countries": ["FR"]}, ["french"]),
        ({"specialties": ["surgeon"]}, []),
        ({"ends_at": NOW}, []),
    ],
)
def test_targeting_time_and_consent(
    tmp_path: Path, campaign: dict[str, Any], reached: list[str]
) -> None:
    known = SimpleNamespace(
        campaigns=table("campaigns", [CAMPAIGN | campaign]),
        users=table("users", USERS),
        events=table("events", []),
    )
    users = ["undescribed", *(str(user["user_id"]) for user in USERS)]
    of = cast(Period, SimpleNamespace(known=known, users=users, now_unix_s=NOW_UNIX_S))
    paid = paid_value(of, item_catalog(dataset(tmp_path), 7.0), np.arange(5, dtype=np.int32))
    for user, worth in zip(users, paid, strict=True):
        assert worth.tolist() == ([0, 0, 0.5, 0.5, 0] if user in reached else [0] * 5), user
