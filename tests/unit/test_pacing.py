"""Prices follow delivery, and forecasts know what cannot be delivered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.forecast import forecast, share_by_chance
from recmesh.orchestrator.campaigns.pacing import PacingSettings, Prices, next_prices, planned
from recmesh.orchestrator.campaigns.reach import (
    Audiences,
    deliverable_per_day,
    room_per_day,
    slots_per_day,
)
from recmesh.orchestrator.campaigns.traffic_profile import HOURS, TrafficProfile
from tests.small_world import table

DAY_S = 86_400
MONDAY = int(datetime(2026, 2, 2, tzinfo=UTC).timestamp())
EVEN = TrafficProfile.of(np.zeros(0, np.int64))
PLENTY = np.array([np.inf])
"""Room of campaigns that can be shown at any time."""


def at(day: float) -> datetime:
    return datetime.fromtimestamp(MONDAY + day * DAY_S, UTC)


def book(*campaigns: dict[str, Any]) -> CampaignBook:
    """Campaigns of ten days from Monday on, a hundred impressions each."""
    rows = [
        {
            "campaign_id": f"c{n}",
            "sponsor": f"s{n}",
            "item_ids": ["i"],
            "starts_at": at(0),
            "ends_at": at(10),
            "budget_impressions": 100,
            "disclosure": "d",
        }
        | campaign
        for n, campaign in enumerate(campaigns)
    ]
    return CampaignBook.of(table("campaigns", rows))


def counts(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


def test_the_plan_is_what_is_left_over_the_traffic_that_is_left() -> None:
    since = Prices.start(1, MONDAY)
    assert planned(book({}), EVEN, since, MONDAY + DAY_S, PLENTY) == pytest.approx([100 / 9.6])
    late = next_prices(book({}), EVEN, since, counts(10), MONDAY + 5 * DAY_S, PLENTY)
    # 90 are left for five days.
    assert planned(book({}), EVEN, late, MONDAY + 6 * DAY_S, PLENTY) == pytest.approx([90 / 4.6])


def test_everything_left_is_due_in_the_last_of_the_traffic() -> None:
    since, now = Prices.start(1, MONDAY), MONDAY + 9.7 * DAY_S
    late = next_prices(book({}), EVEN, since, counts(97), now, PLENTY)
    assert planned(book({}), EVEN, late, now + 0.05 * DAY_S, PLENTY) == pytest.approx([3.0])


def test_who_can_rarely_be_shown_plans_to_be_done_before_the_last_chances() -> None:
    one = book({"budget_impressions": 8})

    def due(room_per_day: float, day: float = 0.0) -> float:
        since = Prices.start(1, MONDAY + day * DAY_S)
        until = since.at_unix_s + DAY_S / 24
        return float(planned(one, EVEN, since, until, np.array([room_per_day]))[0])

    hour = 1 / 24
    assert due(100.0) == pytest.approx(8 * hour / 9.6)
    assert due(1.0) == pytest.approx(8 * hour / 6.0), "four days have four chances"
    assert due(1.0, day=6.0) == 8.0
    assert due(0.3) == due(0.0) == 8.0, "there may be none at all"
    assert due(0.3, day=-1.0) == 0.0, "it has not begun"


def test_nothing_is_planned_before_the_start_and_after_the_end() -> None:
    one = book({"starts_at": at(3), "ends_at": at(4)})
    assert planned(one, EVEN, Prices.start(1, MONDAY), MONDAY + 2 * DAY_S, PLENTY) == [0.0]
    over = Prices.start(1, MONDAY + 5 * DAY_S)
    assert planned(one, EVEN, over, MONDAY + 6 * DAY_S, PLENTY) == [0.0]


def test_traffic_has_the_shape_of_the_week() -> None:
    nine = MONDAY + 9 * 3600
    busy = TrafficProfile.of(np.repeat(np.int64(nine), 10_000))
    assert busy.between(nine, nine + 3600) > 0.9
    assert busy.between(MONDAY, MONDAY + 7 * DAY_S) == pytest.approx(1.0)
    assert busy.between(nine, nine) == 0.0
    assert len(busy.share) == HOURS


def test_prices_rise_while_behind_and_fall_while_ahead() -> None:
    before = Prices.start(2, MONDAY)
    after = next_prices(book({}, {}), EVEN, before, counts(0, 20), MONDAY + DAY_S, PLENTY)
    assert after.price[0] > 0 > after.price[1]
    assert after.dual[0] > 0 > after.dual[1]


@given(
    deliveries=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    bound=st.floats(0.0, 1.0),
)
def test_a_price_is_bounded_and_gone_when_nothing_is_left(
    deliveries: list[int], bound: float
) -> None:
    prices, total = Prices.start(1, MONDAY), 0
    for step, got in enumerate(deliveries, start=1):
        total = min(total + got, 100)
        now = MONDAY + step * DAY_S / 4
        settings = PacingSettings(largest_price=bound)
        prices = next_prices(book({}), EVEN, prices, counts(total), now, PLENTY, settings)
        assert abs(prices.price[0]) <= bound
        if total == 100 or now >= MONDAY + 10 * DAY_S:
            assert prices.price[0] == 0.0


def test_a_campaign_of_few_impressions_an_hour_is_seen_to_fall_behind() -> None:
    prices = Prices.start(2, MONDAY)
    for hour in range(1, 25):
        got = counts(0, round(hour / 2.4))
        prices = next_prices(book({}, {}), EVEN, prices, got, MONDAY + hour * 3600, PLENTY)
        assert hour > 8 or not prices.shortfall.any(), "too little was due to tell"
    assert prices.shortfall[0] == 1.0
    assert abs(prices.shortfall[1]) < 0.1


def users(**columns: list[Any]) -> pa.Table:
    count = len(next(iter(columns.values())))
    rows = [
        {"user_id": f"u{n}", "consents_sponsored": True}
        | {name: values[n] for name, values in columns.items()}
        for n in range(count)
    ]
    return table("users", rows)


def audiences(people: pa.Table, pages_per_day: list[int]) -> Audiences:
    seen = [f"u{n}" for n, pages in enumerate(pages_per_day) for _ in range(10 * pages)]
    return Audiences.of(people, pa.table({"user_id": pa.array(seen, pa.string())}), 1.0, 10)


def given_per_day(
    campaigns: CampaignBook, whom: Audiences, wanted: list[float], cap: int = 100
) -> list[float]:
    caps = np.full(len(campaigns), cap, np.int64)
    found = deliverable_per_day(campaigns, whom, np.array(wanted), caps, 2)
    return [round(float(value), 6) for value in found]


def test_reach_is_pages_of_those_who_are_targeted_and_consent() -> None:
    people = users(
        country=["FR", "FR", "DE", ""],
        consents_sponsored=[True, False, True, True],
    )
    whom = audiences(people, [3, 5, 4, 7])
    french = book({"countries": ["FR"]}, {"countries": ["DE"]}, {})
    assert whom.reached_by(french).tolist() == [
        [True, False, False, False],
        [False, False, True, False],
        [True, False, True, True],
    ]
    assert given_per_day(french, whom, [99, 0, 0]) == [3.0, 0.0, 0.0]
    # Of 3, 4 and 7 pages a day, those that do not come while the cap is reached.
    room = 3 * 4 / 8.5 + 4 * 5 / 13 + 7 * 8 / 32.5
    assert given_per_day(french, whom, [0, 0, 99], cap=2) == [0.0, 0.0, round(room, 6)]
    alone = room_per_day(french, whom, np.full(3, 2))
    assert alone == pytest.approx([3 * 4 / 8.5, 4 * 5 / 13, room])


@pytest.mark.parametrize(("pages_per_day", "cap"), [(0.3, 1), (1.0, 1), (3.0, 2), (5.0, 9)])
def test_room_is_what_a_cap_of_24_hours_leaves_of_random_visits(
    pages_per_day: float, cap: int
) -> None:
    rng = np.random.default_rng(cap)
    days = 4000
    times = np.sort(rng.uniform(0, days, rng.poisson(pages_per_day * days)))
    shown = [-1.0] * cap
    for time in times.tolist():
        if time - shown[-cap] >= 1.0:
            shown.append(time)
    room = float(slots_per_day(np.array([pages_per_day]), cap)[0])
    assert (len(shown) - cap) / days == pytest.approx(room, rel=0.05)


def test_a_cap_beyond_all_visits_costs_nothing() -> None:
    rates = np.array([0.0, 0.5, 7.0])
    assert slots_per_day(rates, 2**31) == pytest.approx(rates)
    assert slots_per_day(rates, 0).tolist() == [0.0, 0.0, 0.0]


def test_campaigns_share_the_slots_there_are() -> None:
    whom = audiences(users(country=["FR"]), [10])
    three = book({}, {}, {})
    assert sum(given_per_day(three, whom, [8, 8, 8])) == pytest.approx(20.0)
    assert given_per_day(three, whom, [5, 5, 5]) == [5.0, 5.0, 5.0]
    assert given_per_day(three, whom, [50, 0, 0])[0] == 10.0, "one slot of a page at most"


def test_nobody_to_reach_gives_nothing() -> None:
    whom = audiences(users(country=["FR"]), [0])
    assert given_per_day(book({}), whom, [8]) == [0.0]


def foreseen(one: CampaignBook, whom: Audiences, prices: Prices, delivered: int = 0) -> float:
    return float(
        forecast(
            one,
            EVEN,
            whom,
            prices,
            counts(delivered),
            now_unix_s=prices.at_unix_s,
            caps_per_day=counts(2),
            sponsored_per_page=2,
            largest_price=0.5,
        )[0]
    )


def test_what_reach_cannot_give_is_foreseen_before_the_start() -> None:
    whom = audiences(users(country=["FR"] * 4), [1, 1, 1, 1])
    early = Prices.start(1, MONDAY - DAY_S)
    assert foreseen(book({"budget_impressions": 15}), whom, early) == pytest.approx(1.0, abs=1e-3)
    # A cap of 2 costs a fifth of the pages of who opens one a day.
    assert foreseen(book({"budget_impressions": 128}), whom, early) == pytest.approx(0.25)


def test_a_single_impression_is_foreseen_by_its_probability() -> None:
    whom = audiences(users(country=["FR"]), [1])
    early = Prices.start(1, MONDAY - DAY_S)
    # 0.8 impressions are expected of this doctor in a day.
    for budget, share in [(1, 1 - np.exp(-0.8)), (2, (2 - 2.8 * np.exp(-0.8)) / 2)]:
        small = book({"budget_impressions": budget, "ends_at": at(1)})
        assert foreseen(small, whom, early) == pytest.approx(share)


@given(wanted=st.integers(0, 40), room=st.floats(0.0, 100.0))
def test_what_comes_by_chance_is_the_mean_of_the_smaller_one(wanted: int, room: float) -> None:
    share = float(share_by_chance(np.array([float(wanted)]), np.array([room]))[0])
    chances = np.arange(400)
    probability = poisson.pmf(chances, room)
    least = float((np.minimum(chances, wanted) * probability).sum())
    assert share == pytest.approx(least / wanted if wanted else 1.0, abs=1e-9)
    assert share <= min(1.0, room / max(wanted, 1)) + 1e-9 or not wanted


def test_a_campaign_at_the_bound_is_foreseen_by_what_it_gets() -> None:
    whom = audiences(users(country=["FR"] * 100), [1] * 100)
    one, prices = book({}), Prices.start(1, MONDAY)
    for hour in range(1, 49):
        got = counts(hour // 6)
        now = MONDAY + hour * 3600.0
        settings = PacingSettings(largest_price=0.5)
        prices = next_prices(one, EVEN, prices, got, now, PLENTY, settings)
    # It gets 4 a day, and 92 are due in 8 days.
    assert prices.price[0] > 0.45
    assert foreseen(one, whom, prices, 8) == pytest.approx(0.08 + 0.92 * 4 / 11.5, abs=0.1)


def test_what_is_delivered_is_certain() -> None:
    whom = audiences(users(country=["FR"]), [0])
    over = Prices.start(1, MONDAY + 20 * DAY_S)
    assert foreseen(book({}), whom, over, 30) == pytest.approx(0.3)
    assert foreseen(book({}), whom, over, 100) == 1.0
