"""Orders of a rehearsal are what the forecast would call them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.offline.campaigns.orders import Orders, ordered
from recmesh.orchestrator.campaigns.forecast import SHORT_BELOW, forecast
from recmesh.orchestrator.campaigns.pacing import Prices
from recmesh.orchestrator.campaigns.reach import Audiences
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile
from recmesh.orchestrator.catalog import TermSets
from recmesh.storage.errors import DataError
from tests.small_world import table

MONDAY = datetime(2026, 2, 2, tzinfo=UTC)
CAP = 2
ITEMS = table(
    "items",
    [
        {"item_id": f"i{n}", "published_at": datetime(2025, 1, 1, tzinfo=UTC), "specialties": [s]}
        for n, s in enumerate(["cardiology", "oncology"] * 10)
    ],
)
COUNTRIES = ["FR"] * 85 + ["MT"] * 20
USERS = table(
    "users",
    [
        {
            "user_id": f"u{n}",
            "specialties": ["cardiology", "oncology"],
            "country": country,
            "consents_sponsored": True,
        }
        for n, country in enumerate(COUNTRIES)
    ],
)


def people(pages_per_day: float) -> Audiences:
    return Audiences(
        specialties=TermSets.of(USERS["specialties"]),
        countries=TermSets.of(USERS["country"]),
        languages=TermSets.of(USERS["language"]),
        consents=np.ones(len(COUNTRIES), bool),
        pages_per_day=np.full(len(COUNTRIES), pages_per_day),
    )


def orders(pages_per_day: float, seed: int, feasible: int = 6) -> Orders:
    return ordered(
        ITEMS,
        USERS,
        people(pages_per_day),
        start=MONDAY,
        days=7,
        feasible=feasible,
        infeasible=2,
        sponsored_per_page=2,
        default_cap=CAP,
        seed=seed,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pages_per_day=st.floats(0.05, 5.0))
def test_the_forecast_agrees_with_what_is_called_feasible(seed: int, pages_per_day: float) -> None:
    found = orders(pages_per_day, seed)
    book = found.book
    expected = forecast(
        book,
        TrafficProfile.of(np.zeros(0, np.int64)),
        people(pages_per_day),
        Prices.start(len(book), MONDAY.timestamp() - 1),
        np.zeros(len(book), np.int64),
        now_unix_s=MONDAY.timestamp() - 1,
        caps_per_day=book.caps_per_day(CAP),
        sponsored_per_page=2,
        largest_price=0.6,
    )
    assert (expected[found.feasible] >= SHORT_BELOW - 1e-6).all()
    assert (expected[~found.feasible] < 0.5).all()
    assert (book.budget >= 1).all()


def test_a_country_with_too_few_doctors_is_not_asked_for() -> None:
    targets = {
        tuple(one["countries"])
        for seed in range(25)
        for one in orders(0.02, seed).table.to_pylist()
    }
    assert targets == {(), ("FR",)}
    often = {
        tuple(one["countries"]) for seed in range(25) for one in orders(5.0, seed).table.to_pylist()
    }
    assert often == {(), ("FR",), ("MT",)}


def test_pages_that_cannot_be_relied_on_are_refused() -> None:
    with pytest.raises(DataError, match="rehearse more pages a day"):
        orders(0.001, 0)
    assert len(orders(0.001, 0, feasible=0).book) == 2
