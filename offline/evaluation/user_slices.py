"""Groups of a period's users that are judged by themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.offline.metrics.relevance import Bool
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES, TIMESTAMP

LEAST_USERS = 20
"""Fewer are judged together with others, or not at all."""


@dataclass(frozen=True, eq=False)
class UserSlice:
    """Some of the users."""

    dimension: str
    """``doctors``, ``activity``, ``specialty`` or ``surface``."""
    name: str
    users: Bool
    """``[users]``"""
    wanted: sparse.csr_matrix | None = None
    """Of slices by surface, what was wanted there, bool ``[users, catalogue]``; otherwise all."""


def user_slices(period: Period) -> list[UserSlice]:
    """New and known doctors; by activity; by main specialty; by surface where there are several.

    Slices of fewer than 20 users are left out, specialties of so few are judged together.
    """
    found = [
        UserSlice("doctors", "new: no usable history", ~period.is_known),
        UserSlice("doctors", "with a history", period.is_known),
        *_by_activity(period),
        *_by_specialty(period),
        *_by_surface(period),
    ]
    return [one for one in found if one.users.sum() >= LEAST_USERS]


def _by_activity(period: Period) -> list[UserSlice]:
    """Thirds of the known users by how many items they have turned to."""
    lengths = np.diff(period.history.indptr)
    if not period.is_known.any():
        return []
    few, medium = np.quantile(lengths[period.is_known], [1 / 3, 2 / 3]).astype(int).tolist()
    most = int(lengths.max())
    bounds = {"few": (1, few), "medium": (few + 1, medium), "many": (medium + 1, most)}
    return [
        UserSlice("activity", f"{name}: {low}–{high} items", (lengths >= low) & (lengths <= high))
        for name, (low, high) in bounds.items()
        if low <= high
    ]


def _by_specialty(period: Period) -> list[UserSlice]:
    profiles = period.known.users
    first = {
        user: next(iter(specialties), "")
        for user, specialties in zip(
            profiles["user_id"].to_pylist(), profiles["specialties"].to_pylist(), strict=True
        )
    }
    main = np.array([first.get(user, "") for user in period.users], object)
    count = Counter(name for name in main.tolist() if name)
    large = sorted(name for name, users in count.items() if users >= LEAST_USERS)
    found = [UserSlice("specialty", name, np.asarray(main == name, np.bool_)) for name in large]
    others = np.array([bool(name) and count[name] < LEAST_USERS for name in main.tolist()], bool)
    return [*found, UserSlice("specialty", "other specialties", others)]


def _by_surface(period: Period) -> list[UserSlice]:
    """What was wanted on each surface; nothing when only one is known."""
    events = EarlierDataset.of(period.known, period.end).events
    start = pa.scalar(period.known.moment, TIMESTAMP)
    positive = pc.is_in(events["event_type"], pa.array(sorted(POSITIVE_EVENT_TYPES)))
    events = events.filter(pc.and_(positive, pc.greater_equal(events["time"], start)))
    users = pc.index_in(events["user_id"], pa.array(period.users))
    items = pc.index_in(events["item_id"], pa.array(period.catalogue, pa.string()))
    of_both = pc.and_(pc.is_valid(users), pc.is_valid(items))
    rows, columns = (c.filter(of_both).to_numpy().astype(np.int64) for c in (users, items))
    surfaces = np.array(events["surface"].filter(of_both).to_pylist(), object)
    names = sorted({name for name in surfaces.tolist() if name})
    if len(names) < 2:
        return []
    found = []
    for name in names:
        there = surfaces == name
        ones = np.ones(int(there.sum()), bool)
        wants = sparse.csr_matrix((ones, (rows[there], columns[there])), shape=period.wanted.shape)
        wanted = sparse.csr_matrix(wants.multiply(period.wanted), dtype=bool)
        found.append(UserSlice("surface", name, np.diff(wanted.indptr) > 0, wanted))
    return found
