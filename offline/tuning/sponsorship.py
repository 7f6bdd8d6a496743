"""Which campaign may pay for an item that is shown to a user, and what that is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.offers import off_label
from recmesh.orchestrator.campaigns.reach import Audiences
from recmesh.orchestrator.catalog import Catalog


def paid_value(of: Period, catalog: Catalog, rows: npt.NDArray[np.int32]) -> Float32:
    """Worth of the best campaign that may pay ``[users, n]``, in [0, 1]; 0 where none may.

    As pages have it: of the campaigns that run at the period's start, those that reach the user,
    and none where the item's use is off-label. Budgets and frequency caps are a page's business,
    and left out.

    Args:
        of: whose users, campaigns and moment they are.
        catalog: of the rows.
        rows: catalog rows ``[n]``.
    """
    paid = np.zeros((len(of.users), len(rows)), np.float32)
    book = CampaignBook.of(of.known.campaigns)
    running = np.flatnonzero(book.running(of.now_unix_s))
    if not len(running):
        return paid
    described = of.known.users
    row_of = {user: row for row, user in enumerate(described["user_id"].to_pylist())}
    known = np.array([row_of.get(user, -1) for user in of.users], np.int64)
    everyone = Audiences.of(described, of.known.events.slice(0, 0), days=1.0, page_size=1)
    reached = everyone.reached_by(book)[:, known] & (known >= 0)
    countries = np.array(
        [described["country"][row].as_py() or "" if row >= 0 else "" for row in known.tolist()]
    )
    for campaign in running.tolist():
        own = catalog.rows([item for item in book.item_ids[campaign] if item in catalog.row_of])
        pays = np.isin(rows, own) & reached[campaign][:, None]
        np.maximum(paid, book.value[campaign], out=paid, where=pays)
    for country in np.unique(countries).tolist():
        paid[np.ix_(countries == country, off_label(catalog, rows, country))] = 0.0
    return paid
