"""Which campaign may pay for an item that is shown to a user, and what that is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period
from recmesh.orchestrator.catalog import Catalog


def paid_value(of: Period, catalog: Catalog, rows: npt.NDArray[np.int32]) -> Float32:
    """Worth of the best paying campaign ``[users, width]``, in [0, 1]; 0 where none may pay.

    A campaign reaches users of its specialties, countries and languages who consent to sponsored
    content, while it runs at the period's start; who has no country is reached by no campaign
    that names countries, and so on.
    """
    paid = np.zeros(rows.shape, np.float32)
    profiles = {row["user_id"]: row for row in of.known.users.to_pylist()}
    users = [profiles.get(user_id) for user_id in of.users]
    moment = of.known.moment
    for campaign in of.known.campaigns.to_pylist():
        if not campaign["starts_at"] <= moment < campaign["ends_at"]:
            continue
        reached = np.array([user is not None and _reaches(campaign, user) for user in users], bool)
        items = catalog.rows([i for i in campaign["item_ids"] if i in catalog.row_of])
        pays = np.isin(rows, items) & reached[:, None]
        np.maximum(paid, np.float32(campaign["value"] or 0.0), out=paid, where=pays)
    return paid


def _reaches(campaign: dict[str, object], user: dict[str, object]) -> bool:
    """Whether targeting and consent let the campaign reach the user; unknown is no."""
    if not user["consents_sponsored"]:
        return False
    wanted: dict[str, object] = {
        "specialties": user["specialties"],
        "countries": [user["country"]],
        "languages": [user["language"]],
    }
    return all(
        not campaign[field] or set(campaign[field]) & set(own)  # type: ignore[call-overload]
        for field, own in wanted.items()
    )
