"""Who is asked for when, what could be shown, and what they wanted: for whatever is new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.models.interactions import read_interactions
from recmesh.models.model import Int64
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.orchestrator.catalog import Catalog, item_catalog
from recmesh.orchestrator.eligibility import filter_candidates
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.v1 import recommendation_pb2

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """One request: a user at the moment they first wanted something in the period."""

    user_id: str
    now_unix_s: int
    candidates: Int64
    """Catalog rows that may be shown then, ascending."""
    wanted: Int64
    """Those of them that the user wanted from then on; at least one."""


@dataclass(frozen=True)
class ColdPeriod:
    """A period to be predicted from what came before it, with all that was new in it.

    New is what no event of any type names before the period.
    """

    known: EarlierDataset
    """The data set as it was when the period began."""
    catalog: Catalog
    """All items, with their popularity at that moment."""
    store: UserStore
    """Users as they were at that moment."""
    wanted: dict[str, list[tuple[int, int]]]
    """First positive events of the period by user: time and catalog row, by ascending time."""

    @classmethod
    def of(
        cls, dataset: Dataset, start: datetime, end: datetime, popularity_half_life_days: float
    ) -> ColdPeriod:
        """The period from ``start`` until before ``end``.

        Raises:
            DataError: nobody wanted anything new to them in it.
        """
        known = EarlierDataset.of(dataset, start)
        catalog = item_catalog(known, popularity_half_life_days)
        events = read_interactions(dataset, end)
        start_unix_s = int(start.timestamp())
        touched: set[tuple[int, int]] = set()
        wanted: dict[str, list[tuple[int, int]]] = {}
        for user, item, time in zip(
            events.users.tolist(), events.items.tolist(), events.times_unix_s.tolist(), strict=True
        ):
            if (user, item) in touched:
                continue
            touched.add((user, item))
            if time >= start_unix_s:
                row = catalog.row_of[events.item_ids[item]]
                wanted.setdefault(events.user_ids[user], []).append((time, row))
        if not wanted:
            raise DataError(f"nobody wanted anything new from {start:%Y-%m-%d} on")
        return cls(known, catalog, UserStore(known), wanted)

    @cached_property
    def new_items(self) -> Bool:
        """Items that no event names before the period ``[catalog]``."""
        seen = pc.unique(self.known.events["item_id"])
        ids = pa.array(self.catalog.item_ids, pa.string())
        return ~np.asarray(pc.is_in(ids, value_set=seen).to_numpy(zero_copy_only=False), np.bool_)

    @cached_property
    def new_users(self) -> set[str]:
        """Users of the period whom no event names before it."""
        return set(self.wanted) - set(pc.unique(self.known.events["user_id"]).to_pylist())

    def cases(self, items: Bool | None = None) -> list[Case]:
        """A case for every user who wanted one of ``items`` ``[catalog]``; None: any item.

        Candidates are those items that eligibility lets through at that moment.
        """
        rows = np.arange(len(self.catalog), dtype=np.int32)
        offered = rows if items is None else rows[items]
        nothing = recommendation_pb2.RecommendRequest()
        found = []
        for user_id, wanted in sorted(self.wanted.items()):
            liked = [(time, row) for time, row in wanted if items is None or items[row]]
            if not liked:
                continue
            now_unix_s = liked[0][0]
            user = self.store.get(user_id)
            kept = filter_candidates(self.catalog, offered, nothing, user, now_unix_s).kept
            candidates = offered[kept].astype(np.int64)
            later = np.intersect1d(candidates, np.array([row for _, row in liked], np.int64))
            if len(later):
                found.append(Case(user_id, now_unix_s, candidates, later))
        return found
