"""Campaigns to rehearse: some that can be delivered, together, and some that cannot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.orchestrator.campaigns.campaign_book import Bool, CampaignBook
from recmesh.orchestrator.campaigns.forecast import SHORT_BELOW, share_by_chance
from recmesh.orchestrator.campaigns.reach import (
    Audiences,
    Float64,
    deliverable_per_day,
    room_per_day,
)
from recmesh.storage.errors import DataError
from recmesh.storage.interchange import CAMPAIGNS, TIMESTAMP

ITEMS_EACH = 8
SHARE_OF_REACH = (0.15, 0.5)
"""Of the impressions that a campaign's reach has room for, how many are bought."""
TOGETHER = 0.6
"""Share of the room that all feasible campaigns use together, at most."""
TOO_MUCH = 3.0
"""Times its reach's room that an infeasible campaign buys."""


@dataclass(frozen=True)
class Orders:
    """The campaigns of a rehearsal."""

    table: pa.Table
    """In the interchange format."""
    feasible: npt.NDArray[np.bool_]
    """Which can be delivered, by their rows in the book."""

    @property
    def book(self) -> CampaignBook:
        """The same, columnar."""
        return CampaignBook.of(self.table)


def _showable(items: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """Items out for the whole time, that no licence or label keeps from anybody."""
    published = pc.less(items["published_at"], pa.scalar(start, TIMESTAMP))
    lasting = pc.fill_null(pc.greater(items["expires_at"], pa.scalar(end, TIMESTAMP)), True)
    free = pc.and_(
        pc.equal(pc.list_value_length(items["countries"]), 0),
        pc.equal(pc.list_value_length(items["off_label_countries"]), 0),
    )
    return items.filter(pc.and_(pc.and_(pc.fill_null(published, True), lasting), free))


def ordered(
    items: pa.Table,
    users: pa.Table,
    audiences: Audiences,
    *,
    start: datetime,
    days: int,
    feasible: int,
    infeasible: int,
    sponsored_per_page: int,
    default_cap: int,
    seed: int,
) -> Orders:
    """Draws campaigns on items of one specialty each, for its doctors, all or of one country.

    None is called feasible that the forecast does not expect to be delivered; one for a country
    with too few doctors for that is for all.

    Args:
        items: of the interchange format.
        users: of the interchange format.
        audiences: the users, with the pages that they will open.
        start: of the rehearsal; campaigns begin within its first half and run for half of it
            at least.
        days: of the rehearsal, > 0.
        feasible: campaigns that can be delivered together, with room to spare.
        infeasible: campaigns that buy more than their reach has room for.
        sponsored_per_page: most sponsored slots of a page.
        default_cap: the policy's cap, of campaigns without one.
        seed: of all randomness.

    Raises:
        DataError: there are no items or no users to make campaigns of, or too few pages for one.
    """
    rng = np.random.default_rng(seed)
    usable = _showable(items, start, start + timedelta(days=days))
    specialties = sorted(set(pc.list_flatten(usable["specialties"]).to_pylist()) - {""})
    # As often as doctors live there.
    countries = [country for country in users["country"].to_pylist() if country]
    if not specialties or not countries:
        raise DataError("campaigns need items with specialties, and doctors with countries")
    rows = []
    for n in range(feasible + infeasible):
        specialty = specialties[int(rng.integers(len(specialties)))]
        of_specialty = [specialty in row for row in usable["specialties"].to_pylist()]
        ids = usable.filter(pa.array(of_specialty))["item_id"].to_pylist()
        begins = start + timedelta(days=float(rng.uniform(0, 0.3) * days)) * (n % 3 > 0)
        lasts = timedelta(days=float(rng.uniform(0.5, 0.7) * days))
        narrow = rng.random() < 0.25
        rows.append(
            {
                "campaign_id": f"c{n:02d}",
                "sponsor": f"Sponsor {n % max(feasible, 1) + 1}",
                "item_ids": rng.choice(ids, min(ITEMS_EACH, len(ids)), replace=False).tolist(),
                "specialties": [specialty],
                "countries": [str(rng.choice(countries))] if narrow else [],
                "languages": [],
                "starts_at": begins,
                "ends_at": begins + lasts,
                "budget_impressions": 1,
                "frequency_cap_per_day": int(rng.integers(0, 4)),
                "value": float(rng.uniform(0.2, 1.0)),
                "disclosure": f"Sponsored by Sponsor {n % max(feasible, 1) + 1}",
            }
        )
    book, lasting, room = _roomy(rows, audiences, default_cap)
    can = np.arange(len(book)) < feasible
    if too_thin := np.flatnonzero(can & _too_thin(room)).tolist():
        raise DataError(
            f"campaign {book.campaign_ids[too_thin[0]]} can expect {room[too_thin[0]]:.1f} "
            f"impressions, too few to promise one with {SHORT_BELOW:.0%}: rehearse more pages a day"
        )
    alone = room / lasting
    wanted = np.where(can, rng.uniform(*SHARE_OF_REACH, len(book)) * alone, 0.0)
    caps = book.caps_per_day(default_cap)
    # All at once, as if none ever ended: less is possible only if even that is not.
    while True:
        demanded = wanted / TOGETHER
        given = deliverable_per_day(book, audiences, demanded, caps, sponsored_per_page)
        short = can & (given < 0.999 * demanded)
        if not short.any():
            break
        wanted = np.where(short, 0.9 * wanted, wanted)
    bought = np.where(can, wanted, TOO_MUCH * alone) * lasting
    budget = np.maximum(np.round(bought), 1.0)
    # Averages are not enough: what is bought is to come by chance, too.
    while (over := can & (share_by_chance(budget, room) < SHORT_BELOW)).any():
        budget = np.where(over, budget - 1.0, budget)
    at = CAMPAIGNS.columns.get_field_index("budget_impressions")
    table = pa.Table.from_pylist(rows, schema=CAMPAIGNS.columns).set_column(
        at, CAMPAIGNS.columns.field(at), pa.array(budget.astype(np.int64))
    )
    return Orders(table, can)


def _too_thin(room: Float64) -> Bool:
    """Whose reach cannot be relied on for a single impression."""
    return share_by_chance(np.ones(len(room)), room) < SHORT_BELOW


def _roomy(
    rows: list[dict[str, Any]], audiences: Audiences, default_cap: int
) -> tuple[CampaignBook, Float64, Float64]:
    """Lifts the bounds on countries in ``rows`` where too few doctors live there.

    Returns:
        The book, days that each campaign lasts, and impressions that it has room for alone.
    """
    while True:
        book = CampaignBook.of(pa.Table.from_pylist(rows, schema=CAMPAIGNS.columns))
        lasting = (book.ends_unix_s - book.starts_unix_s) / 86_400.0
        room = lasting * room_per_day(book, audiences, book.caps_per_day(default_cap))
        narrow = [row for row in np.flatnonzero(_too_thin(room)) if rows[row]["countries"]]
        if not narrow:
            return book, lasting, room
        for row in narrow:
            rows[row]["countries"] = []
