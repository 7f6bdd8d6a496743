"""Pages with campaigns: who is reached, what may be paid for, and what is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import CampaignRules, Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.errors import UnavailableError
from recmesh.storage.interchange import TIMESTAMP
from recmesh.v1 import common_pb2, recommendation_pb2
from tests.memory_ledger import MemoryLedger
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset, table

PAID = ["i37", "i38", "i39"]
CAMPAIGN: dict[str, Any] = {
    "campaign_id": "c",
    "sponsor": "Example Pharma",
    "item_ids": PAID,
    "starts_at": datetime.fromtimestamp(NOW_UNIX_S - 3600, UTC),
    "ends_at": datetime.fromtimestamp(NOW_UNIX_S + 3600, UTC),
    "budget_impressions": 100,
    "disclosure": "Sponsored by Example Pharma",
}
Reached = Callable[..., Mesh]


def with_policy(mesh: Mesh, **campaigns: float) -> Mesh:
    policy = mesh.snapshot.policy
    feed = policy.surfaces["feed"]
    rules = CampaignRules(**{"largest_price": 1.0, "most_organic_loss": 1.0, **campaigns})
    surfaces = {**policy.surfaces, "feed": feed.model_copy(update={"campaigns": rules})}
    snapshot = mesh.snapshot
    mesh.snapshot = replace(snapshot, policy=policy.model_copy(update={"surfaces": surfaces}))
    return mesh


@pytest.fixture
async def reached(tmp_path: Path) -> Reached:
    """A mesh with one campaign whose items nobody else would show."""
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: -int(item[1:]) / 40)})
    await models.refresh()
    base = Snapshot.of(dataset(tmp_path), Policy.load(), None)

    def made(
        campaign: dict[str, Any] | None = None,
        *,
        user: dict[str, Any] | None = None,
        price: float = 1.0,
        others: tuple[dict[str, Any], ...] = (),
    ) -> Mesh:
        campaigns = [CAMPAIGN | (campaign or {}), *(CAMPAIGN | other for other in others)]
        data = dataset(tmp_path)
        reader = {"user_id": "reader", "country": "FR", "specialties": ["cardiology"]}
        data.__dict__["users"] = table("users", [reader | (user or {})])
        snapshot = replace(
            base,
            user_store=UserStore(data),
            campaigns=CampaignBook.of(table("campaigns", campaigns)),
        )
        budgets = {one["campaign_id"]: one["budget_impressions"] for one in campaigns}
        mesh = Mesh(models, None, snapshot, ledger=MemoryLedger(budgets))
        mesh.pacing.post([CampaignPacing(i, price, budget) for i, budget in budgets.items()])
        return with_policy(mesh)

    return made


def feed(**fields: Any) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest(
        request_id="r1", surface="feed", user_id="reader", **fields
    )
    request.context.time.seconds = NOW_UNIX_S
    return request


def ledger(mesh: Mesh) -> MemoryLedger:
    assert isinstance(mesh.ledger, MemoryLedger)
    return mesh.ledger


def sponsored(page: recommendation_pb2.RecommendResponse) -> dict[int, str]:
    """Item by rank, of slots that count for a campaign."""
    slots = page.recommendations
    return {slot.rank: slot.item_id for slot in slots if slot.sponsorship.campaign_id}


async def page_of(mesh: Mesh, **fields: Any) -> recommendation_pb2.RecommendResponse:
    return await recommend(mesh, feed(**fields), math.inf)


async def test_a_paid_slot_is_disclosed_held_and_spaced(reached: Reached) -> None:
    mesh = reached()
    page = await page_of(mesh)
    shown = sponsored(page)
    assert len(shown) == 2, "a fifth of ten slots"
    first, second = sorted(shown)
    assert second - first > 3
    assert set(shown.values()) < set(PAID)
    for slot in page.recommendations:
        assert (slot.item_id in PAID) == slot.HasField("sponsorship")
        if slot.HasField("sponsorship"):
            assert slot.sponsorship.disclosure == "Sponsored by Example Pharma"
    assert set(ledger(mesh).held) == {("r1", item) for item in shown.values()}
    assert "campaigns" in [source.name for source in page.sources]
    assert "campaigns" not in [one.component for one in page.degradations]


async def test_without_a_price_nobody_shows_it_at_all(reached: Reached) -> None:
    assert sponsored(await page_of(reached(price=0.0))) == {}


@pytest.mark.parametrize(
    ("campaign", "user"),
    [
        ({"specialties": ["oncology"]}, {}),
        ({"countries": ["DE"]}, {}),
        ({"languages": ["de"]}, {"language": "fr"}),
        ({}, {"consents_sponsored": False}),
        ({"countries": ["FR"]}, {"country": ""}),
        ({"specialties": ["cardiology"]}, {"specialties": []}),
        ({"ends_at": datetime.fromtimestamp(NOW_UNIX_S, UTC)}, {}),
        ({"starts_at": datetime.fromtimestamp(NOW_UNIX_S + 1, UTC)}, {}),
    ],
    ids=[
        "specialty",
        "country",
        "language",
        "consent",
        "unknown country",
        "unknown specialty",
        "over",
        "not begun",
    ],
)
async def test_who_is_not_reached_sees_nothing_paid(
    reached: Reached, campaign: dict[str, Any], user: dict[str, Any]
) -> None:
    mesh = reached(campaign, user=user)
    assert sponsored(await page_of(mesh)) == {}
    assert ledger(mesh).asked == 0


async def test_who_meets_all_targets_is_reached(reached: Reached) -> None:
    mesh = reached(
        {"specialties": ["cardiology", "x"], "countries": ["FR"], "languages": ["fr"]},
        user={"language": "fr"},
    )
    assert len(sponsored(await page_of(mesh))) == 2


async def test_an_unknown_doctor_is_reached_by_nobody(reached: Reached) -> None:
    mesh = reached()
    request = feed()
    request.user_id = "nobody has heard of her"
    assert sponsored(await recommend(mesh, request, math.inf)) == {}


@pytest.mark.parametrize(("country", "shown"), [("FR", 0), ("DE", 2), ("", 0)])
async def test_off_label_items_are_not_paid_for(reached: Reached, country: str, shown: int) -> None:
    mesh = reached(user={"country": country})
    items = mesh.snapshot.items
    column = pa.chunked_array([[["FR"] if item in PAID else [] for item in items.item_ids]])
    off_label = type(items.off_label).of(column)
    mesh.snapshot = replace(mesh.snapshot, items=replace(items, off_label=off_label))
    assert len(sponsored(await page_of(mesh))) == shown


async def test_a_paid_item_that_is_not_licensed_stays_away(reached: Reached) -> None:
    assert sponsored(await page_of(reached({"item_ids": ["i5"]}))) == {}


async def test_without_the_ledger_the_page_has_no_paid_slot_and_says_so(
    reached: Reached,
) -> None:
    mesh = reached()
    ledger(mesh).failure = UnavailableError("gone")
    page = await page_of(mesh)
    assert sponsored(page) == {}
    assert len(page.recommendations) == 10
    state = {source.name: source.state for source in page.sources}
    assert state["campaigns"] == common_pb2.SOURCE_STATE_UNAVAILABLE
    assert page.degraded


async def test_a_ledger_not_heard_yet_degrades_the_page(reached: Reached) -> None:
    mesh = reached()
    mesh.pacing = type(mesh.pacing)()
    page = await page_of(mesh)
    assert sponsored(page) == {}
    assert "campaigns" in [one.component for one in page.degradations]


async def test_what_the_ledger_refuses_is_replaced(reached: Reached) -> None:
    mesh = reached(others=({"campaign_id": "d", "item_ids": ["i30"], "sponsor": "Other"},))
    ledger(mesh).budgets["c"] = 0
    page = await page_of(mesh)
    assert list(sponsored(page).values()) == ["i30"]
    assert ledger(mesh).asked == 2
    again = await page_of(mesh)
    assert list(sponsored(again).values()) == ["i30"]
    assert ledger(mesh).asked == 3, "a spent campaign is not asked for until it is heard again"


async def test_a_refused_item_is_not_shown_unpaid(reached: Reached) -> None:
    mesh = reached({"item_ids": ["i2", "i3"]})
    ledger(mesh).cap = 0
    page = await page_of(mesh)
    assert not {"i2", "i3"} & {slot.item_id for slot in page.recommendations}


def impression(item_id: str, request_id: str, at: int, campaign_id: str = "c") -> pa.Table:
    return pa.table(
        {
            "user_id": ["reader"],
            "item_id": [item_id],
            "event_type": ["impression"],
            "received_at": pa.array([1000 * at], pa.int64()).cast(TIMESTAMP),
            "request_id": [request_id],
            "campaign_id": [campaign_id],
            "counted": [True],
        }
    )


@pytest.mark.parametrize(("ago_s", "held_back"), [(3600, True), (25 * 3600, False)])
async def test_a_frequency_cap_holds_the_items_back_for_a_day(
    reached: Reached, ago_s: int, held_back: bool
) -> None:
    mesh = reached({"frequency_cap_per_day": 1})
    seen = impression("i37", "earlier", NOW_UNIX_S - ago_s)
    mesh.impressions.take(seen, NOW_UNIX_S)
    page = await page_of(mesh, page_size=30)
    shown = {slot.item_id for slot in page.recommendations}
    assert shown.isdisjoint(PAID) == held_back


async def test_the_policy_caps_where_the_campaign_does_not(reached: Reached) -> None:
    mesh = reached()
    for n in range(mesh.snapshot.policy.frequency_cap_per_day):
        mesh.impressions.take(impression("i37", f"r-{n}", NOW_UNIX_S - 60), NOW_UNIX_S)
    assert sponsored(await page_of(mesh)) == {}


async def test_the_next_page_of_a_request_is_a_cut_of_the_same_slate(reached: Reached) -> None:
    mesh = reached({"frequency_cap_per_day": 1})
    first = await page_of(mesh)
    for item in sponsored(first).values():
        mesh.impressions.take(impression(item, "r1", NOW_UNIX_S), NOW_UNIX_S)
    whole = await page_of(mesh, page_size=20)
    second = await page_of(mesh, page_token=first.next_page_token)
    assert [s.item_id for s in whole.recommendations] == [
        s.item_id for page in (first, second) for s in page.recommendations
    ]


async def test_a_page_never_loses_more_than_the_policy_lets_campaigns_cost(
    reached: Reached,
) -> None:
    dear = with_policy(reached(), most_organic_loss=0.001)
    page = await page_of(dear)
    assert sponsored(page) == {}
    assert ledger(dear).held == {}
    cheap = with_policy(reached(), most_organic_loss=1.0)
    assert sponsored(await page_of(cheap))


async def test_prices_are_bounded_by_the_policy(reached: Reached) -> None:
    assert sponsored(await page_of(with_policy(reached(), largest_price=0.0))) == {}


async def test_a_campaign_that_is_ahead_waits(reached: Reached) -> None:
    items = ["i2", "i3", "i4"]
    assert sponsored(await page_of(reached({"item_ids": items}, price=0.0)))
    assert sponsored(await page_of(reached({"item_ids": items}, price=-1.0))) == {}


async def test_sponsors_share_the_page(reached: Reached) -> None:
    mesh = reached(others=({"campaign_id": "d", "item_ids": ["i30"], "sponsor": "Other"},))
    policy = mesh.snapshot.policy
    surface = policy.surfaces["feed"]
    rules = surface.slate.model_copy(update={"max_per_sponsor": 1})
    surfaces = {**policy.surfaces, "feed": surface.model_copy(update={"slate": rules})}
    mesh.snapshot = replace(mesh.snapshot, policy=policy.model_copy(update={"surfaces": surfaces}))
    page = await page_of(mesh)
    campaigns = [slot.sponsorship.campaign_id for slot in page.recommendations]
    assert sorted(filter(None, campaigns)) == ["c", "d"]


async def test_an_item_whose_making_was_paid_for_is_disclosed_without_a_campaign(
    reached: Reached,
) -> None:
    mesh = reached(price=0.0)
    items = mesh.snapshot.items
    sponsors = ["Maker" if item == "i2" else "" for item in items.item_ids]
    mesh.snapshot = replace(mesh.snapshot, items=replace(items, sponsors=sponsors))
    page = await page_of(mesh)
    by_item = {slot.item_id: slot.sponsorship for slot in page.recommendations}
    assert by_item["i2"].disclosure == "Sponsored by Maker"
    assert by_item["i2"].campaign_id == ""


async def test_worth_tells_campaigns_apart_and_costs_no_more(reached: Reached) -> None:
    other = {"campaign_id": "d", "item_ids": ["i36"], "sponsor": "Other", "value": 1.0}
    mesh = reached({"item_ids": ["i37"], "value": 0.0}, others=(other,), price=0.1)
    policy = mesh.snapshot.policy
    surface = policy.surfaces["feed"]
    weights = {**surface.objective_weights, "campaign": 1.0}
    rules = surface.slate.model_copy(update={"sponsored_share": 0.1})

    def serve(most_organic_loss: float) -> None:
        campaigns = CampaignRules(largest_price=1.0, most_organic_loss=most_organic_loss)
        changed = surface.model_copy(
            update={"objective_weights": weights, "slate": rules, "campaigns": campaigns}
        )
        surfaces = {**policy.surfaces, "feed": changed}
        mesh.snapshot = replace(
            mesh.snapshot, policy=policy.model_copy(update={"surfaces": surfaces})
        )

    serve(1.0)
    page = await page_of(mesh, explain=True)
    assert list(sponsored(page).values()) == ["i36"]
    worth = {s.item_id: s.objective_scores["campaign"] for s in page.recommendations}
    assert worth.pop("i36") == 1.0
    assert not any(worth.values())
    serve(0.001)
    assert sponsored(await page_of(mesh)) == {}, "its worth does not hide what it costs"
