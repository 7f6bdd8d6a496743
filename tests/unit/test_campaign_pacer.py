"""The pacer and what it looks at, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recmesh.deployments.campaign_delivery import expected_delivery, standings
from recmesh.deployments.campaign_pacer import CampaignPacer
from recmesh.deployments.campaign_traffic import DAY_S, CampaignTraffic
from recmesh.deployments.current_campaigns import CurrentCampaigns
from recmesh.deployments.kept_forecast import KeptForecast
from recmesh.deployments.mesh_config import CampaignsTable
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.campaign_ledger import PageWish, SavedPrice, SlotLedger, SlotWish
from recmesh.storage.catalog_log import CatalogLog, Upsert
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from tests.conformance.test_catalog_log import user
from tests.conformance.test_event_log import event
from tests.small_world import NOW_UNIX_S, write_table

EMPTY = Dataset(version="", files={})


def campaign(campaign_id: str, budget: int = 1000, cap: int = 0) -> Upsert:
    row = {
        "campaign_id": campaign_id,
        "sponsor": "s",
        "item_ids": ["i1"],
        "specialties": [],
        "countries": [],
        "languages": [],
        "starts_at": 1000 * (NOW_UNIX_S - 3600),
        "ends_at": 1000 * (NOW_UNIX_S + 36_000),
        "budget_impressions": budget,
        "frequency_cap_per_day": cap,
        "value": 0.5,
        "disclosure": "Ad",
    }
    return Upsert("campaigns", [row])


class Paced:
    """A pacer on a database of its own, and the moment that it takes for now."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home = home
        self.database = database
        self.now = float(NOW_UNIX_S)
        self.catalog = CatalogLog(database)
        self.ledger = SlotLedger(database)
        self.traffic_reads = 0
        self.known: CampaignTraffic | None = None
        self.restart()

    def restart(self) -> None:
        self.current = CurrentCampaigns(self.home, self.catalog, DEFAULT_POLICY)
        table = CampaignsTable(step_s=60, hold_s=900)
        self.pacer = CampaignPacer(
            self.ledger, self.current, self.read_traffic, table, lambda: self.now
        )

    def read_traffic(self, now_unix_s: float, page_size: int) -> CampaignTraffic:
        self.traffic_reads += 1
        return self.known or CampaignTraffic.read(EMPTY, self.database, now_unix_s, page_size)

    def after(self, seconds: float) -> dict[str, float]:
        """Prices after so much time and a look."""
        self.now += seconds
        self.pacer.tick()
        return {saved.campaign_id: saved.price for saved in self.ledger.prices()}

    def hold(self, request_id: str, campaign_id: str = "c1") -> None:
        wish = SlotWish("i1", campaign_id, 1000, 1000)
        self.ledger.hold([PageWish(request_id, "u", [wish])], int(1000 * self.now))


@pytest.fixture
def paced(tmp_path: Path) -> Iterator[Paced]:
    home = Home(tmp_path)
    database = Database.for_writing("", home.database)
    yield Paced(home, database)
    database.close()


def test_without_campaigns_there_is_nothing_to_do(paced: Paced) -> None:
    assert paced.after(0) == {}
    assert paced.ledger.prices() == []


def test_a_campaign_that_gets_nothing_becomes_dearer_step_by_step(paced: Paced) -> None:
    paced.catalog.write([campaign("c1")])
    assert paced.after(0) == {"c1": 0.0}
    assert paced.after(59) == {"c1": 0.0}, "no step is due"
    first = paced.after(1)["c1"]
    assert 0 < first < paced.after(60)["c1"]
    for n in range(30):
        paced.hold(f"r{n}")
    assert paced.after(60)["c1"] < first, "held slots are delivered"


def test_a_restart_goes_on_where_it_was(paced: Paced) -> None:
    paced.catalog.write([campaign("c1")])
    before = [paced.after(60) for _ in range(5)][-1]
    saved = paced.ledger.prices()
    paced.restart()
    assert paced.after(0) == before
    assert paced.ledger.prices() == saved
    assert paced.after(60)["c1"] > before["c1"]


def test_a_campaign_that_comes_later_starts_at_no_price(paced: Paced) -> None:
    paced.catalog.write([campaign("c1")])
    paced.after(0)
    paced.catalog.write([campaign("c2")])
    paced.hold("r1", "c2")
    prices = paced.after(60)
    assert prices["c2"] == pytest.approx(prices["c1"])


def test_slots_lapse_once_their_time_is_over(paced: Paced) -> None:
    paced.catalog.write([campaign("c1")])
    paced.hold("r1")
    paced.after(900)
    assert paced.ledger.counts()["c1"].held == 1
    paced.after(60)
    assert paced.ledger.counts()["c1"].held == 0


@pytest.mark.parametrize("back", [30.0, 60.0, 100_000.0])
def test_a_clock_that_was_put_back_stops_nothing_for_long(paced: Paced, back: float) -> None:
    paced.catalog.write([campaign("c1")])
    paced.after(60)
    before = paced.after(60)["c1"]
    paced.after(-back)
    paced.after(60)
    assert paced.after(60)["c1"] > before or back > 3600, "before its start it has no price"
    assert all(1000 * paced.now >= saved.at_ms for saved in paced.ledger.prices())


def test_a_forecast_is_solved_once_a_step(paced: Paced, monkeypatch: pytest.MonkeyPatch) -> None:
    solved = 0

    def counting(*arguments: object) -> object:
        nonlocal solved
        solved += 1
        return expected_delivery(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("recmesh.deployments.kept_forecast.expected_delivery", counting)
    kept = KeptForecast()

    def foreseen() -> list[float]:
        terms = paced.current.look()
        counts, saved = paced.ledger.counts(), paced.ledger.prices()
        traffic = paced.pacer.traffic(terms)
        expected = kept.of(terms, counts, saved, traffic, paced.now)
        found = standings(terms, counts, saved, traffic, expected, paced.now)
        return [one.forecast for one in found]

    assert foreseen() == []
    paced.catalog.write([campaign("c1", budget=4)])
    paced.after(60)
    solved = 0
    assert [foreseen() for _ in range(3)] == [[0.0]] * 3, "nobody is known to come"
    assert solved == 1
    shown = event("e1", event_type="impression", request_id="r1", item_id="i1", campaign_id="c1")
    EventLog(paced.database).write([shown], int(1000 * paced.now))
    assert foreseen() == [0.25], "what was shown since is certain"
    assert solved == 1
    paced.after(60)
    assert foreseen() == [0.25]
    assert solved == 2
    paced.catalog.write([campaign("c2")])
    assert foreseen() == [0.25, 0.0]
    assert solved == 3


def test_who_can_rarely_be_shown_is_dear_at_once(paced: Paced) -> None:
    paced.catalog.write([campaign("c1", budget=1)])
    unknown = [paced.after(60)["c1"] for _ in range(5)][-1]
    assert 0 < unknown < 0.01, "too little is known of who comes"
    nobody = paced.pacer.traffic(paced.current.look())
    paced.known = replace(nobody, spans_a_week=True)
    paced.restart()
    assert paced.after(60)["c1"] > 0.05


def test_traffic_is_looked_at_once_a_day(paced: Paced) -> None:
    paced.catalog.write([campaign("c1")])
    for _ in range(5):
        paced.after(60)
    assert paced.traffic_reads == 1
    terms = paced.current.look()
    paced.now += DAY_S
    paced.pacer.traffic(terms)
    assert paced.traffic_reads == 2


async def test_the_loop_outlives_what_goes_wrong(
    paced: Paced, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced.catalog.write([campaign("c1")])
    monkeypatch.setattr("recmesh.deployments.campaign_pacer.POLL_S", 0.01)
    calls = 0
    saved = threading.Event()
    counts, save = SlotLedger.counts, SlotLedger.save_prices

    def failing(ledger: SlotLedger) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise UnavailableError("the database failed (OperationalError)")
        if calls == 2:
            raise ZeroDivisionError
        return counts(ledger)

    def saving(ledger: SlotLedger, prices: Sequence[SavedPrice]) -> None:
        save(ledger, prices)
        saved.set()

    monkeypatch.setattr(SlotLedger, "counts", failing)
    monkeypatch.setattr(SlotLedger, "save_prices", saving)
    running = asyncio.create_task(paced.pacer.run())
    assert await asyncio.to_thread(saved.wait, 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await paced.pacer.close()
    assert calls == 3


def test_campaigns_are_followed_wherever_they_come_from(paced: Paced) -> None:
    first = paced.current.look()
    assert len(first.book) == 0
    assert paced.current.look() is first
    paced.catalog.write([campaign("c1", budget=5)])
    second = paced.current.look()
    assert second.book.budget.tolist() == [5]
    assert second.caps_per_day.tolist() == [2], "the policy's"
    paced.catalog.write([Upsert("users", [user("u")])])
    assert paced.current.look() is second
    paced.catalog.write([campaign("c1", budget=7, cap=4)])
    third = paced.current.look()
    assert (third.book.budget.tolist(), third.caps_per_day.tolist()) == ([7], [4])
    store = PolicyStore(paced.home.policies)
    text = DEFAULT_POLICY.read_text()
    paced.catalog.write([campaign("c2")])
    version = store.publish(
        text.replace("frequency_cap_per_day = 2", "frequency_cap_per_day = 9"), {}
    )
    store.make_live(version)
    assert paced.current.look().caps_per_day.tolist() == [4, 9]


def at(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def test_ingested_traffic_speaks_until_a_week_is_recorded(paced: Paced, tmp_path: Path) -> None:
    old = NOW_UNIX_S - 90 * DAY_S
    events = [
        {"event_id": f"e{n}", "user_id": "a", "event_type": "impression", "time": at(old + n)}
        for n in range(20)
    ]
    files = {
        "events": write_table(tmp_path, "events", events),
        "users": write_table(tmp_path, "users", [{"user_id": "a"}, {"user_id": "b"}]),
    }
    dataset = Dataset(version="v", files=files)
    log = EventLog(paced.database)

    def pages() -> list[float]:
        read = CampaignTraffic.read(dataset, paced.database, paced.now, page_size=10)
        assert read.profile.share.sum() == pytest.approx(1.0)
        return [float(rate) for rate in read.audiences.pages_per_day]

    assert pages() == [2.0, 0.0]

    def seen(name: str, days_ago: float) -> None:
        time = int(1000 * (paced.now - days_ago * DAY_S))
        log.write([event(name, event_type="impression", user_id="b", time=time)], time)

    seen("r1", 5)
    seen("r2", 1)
    assert pages() == [2.0, 0.0]
    seen("r3", 11)
    assert pages() == [0.0, pytest.approx(3 / 10 / 10)]


def test_without_impressions_every_event_is_a_page(tmp_path: Path) -> None:
    clicks = [
        {"event_id": f"e{n}", "user_id": "a", "event_type": "click", "time": at(n * DAY_S)}
        for n in range(11)
    ]
    files = {
        "events": write_table(tmp_path, "events", clicks),
        "users": write_table(tmp_path, "users", [{"user_id": "a"}]),
    }
    read = CampaignTraffic.read(Dataset(version="v", files=files), None, 0.0, page_size=10)
    assert read.audiences.pages_per_day.tolist() == [1.1]


def test_nothing_at_all_is_even_traffic_of_nobody() -> None:
    read = CampaignTraffic.read(EMPTY, None, 0.0, page_size=10)
    np.testing.assert_allclose(read.profile.share, 1 / 168)
    assert read.audiences.pages_per_day.tolist() == []
