"""Positive events as columns, and as a matrix: what collaborative models learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recmesh.models.model import Float32, Int64
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import EVENT_TYPES, POSITIVE_EVENT_TYPES, TIMESTAMP

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Interactions:
    """Positive events by ascending time, all columns ``[n]``.

    ``users`` and ``items`` are positions in ``user_ids`` and ``item_ids``, both sorted.
    """

    user_ids: list[str]
    item_ids: list[str]
    users: Int64
    items: Int64
    event_types: Int64
    times_unix_s: Int64

    def __len__(self) -> int:
        return len(self.times_unix_s)

    def where(self, kept: npt.NDArray[np.bool_]) -> Interactions:
        """The events where ``kept[n]``; the ids stay, so positions stay comparable."""
        return replace(
            self,
            users=self.users[kept],
            items=self.items[kept],
            event_types=self.event_types[kept],
            times_unix_s=self.times_unix_s[kept],
        )

    def split(self, last: float) -> tuple[Interactions, Interactions]:
        """Events before, and at or after, the moment that the ``last`` fraction begins."""
        if not len(self):
            return self, self
        moment = self.times_unix_s[min(int(len(self) * (1 - last)), len(self) - 1)]
        late = self.times_unix_s >= moment
        return self.where(~late), self.where(late)

    def matrix(self, weights: Float32) -> sparse.csr_matrix:
        """Users by items, float32; an entry is the largest of its events' ``weights[n]``."""
        shape = (len(self.user_ids), len(self.item_ids))
        # Largest last, so that keeping the last of equal cells keeps the largest.
        order = np.argsort(weights, kind="stable")[::-1]
        cells = self.users[order] * max(shape[1], 1) + self.items[order]
        unique, first = np.unique(cells, return_index=True)
        rows, columns = np.divmod(unique, max(shape[1], 1))
        return sparse.csr_matrix((weights[order][first], (rows, columns)), shape=shape)


def event_weights(
    event_types: Int64,
    times_unix_s: Int64,
    now_unix_s: int,
    type_weights: Mapping[str, float],
    half_life_days: float,
) -> Float32:
    """Weight ``[n]`` of events: by type (1 unless named), halved every half-life.

    ``half_life_days`` of 0 means no decay.
    """
    by_number = np.ones(max(EVENT_TYPES.values()) + 1)
    for name, number in EVENT_TYPES.items():
        by_number[number] = type_weights.get(name, 1.0) if name in POSITIVE_EVENT_TYPES else 0.0
    known = np.where((event_types >= 0) & (event_types < len(by_number)), event_types, 0)
    weights = by_number[known]
    if half_life_days > 0:
        age_days = np.maximum(now_unix_s - times_unix_s, 0) / SECONDS_PER_DAY
        weights = weights * 0.5 ** (age_days / half_life_days)
    return np.asarray(weights, np.float32)


def read_interactions(dataset: Dataset, until: datetime | None = None) -> Interactions:
    """Positive events on known items before ``until``.

    Follows of doctors name no item and fall out; a data set without items keeps all ids.
    """
    events = dataset.events
    kept = pc.is_in(events["event_type"], pa.array(sorted(POSITIVE_EVENT_TYPES)))
    kept = pc.and_(kept, pc.not_equal(events["item_id"], ""))
    if until is not None:
        kept = pc.and_(kept, pc.less(events["time"], pa.scalar(until, TIMESTAMP)))
    if dataset.items.num_rows:
        known = dataset.items["item_id"].combine_chunks()
        kept = pc.and_(kept, pc.is_in(events["item_id"], known))
    events = events.filter(kept)
    user_ids, users = np.unique(events["user_id"].to_numpy().astype(str), return_inverse=True)
    item_ids, items = np.unique(events["item_id"].to_numpy().astype(str), return_inverse=True)
    types = [EVENT_TYPES[name] for name in events["event_type"].to_pylist()]
    times_ms = events["time"].cast(pa.int64()).to_numpy()
    return Interactions(
        user_ids.tolist(),
        item_ids.tolist(),
        users.astype(np.int64),
        items.astype(np.int64),
        np.array(types, np.int64),
        (times_ms // 1000).astype(np.int64),
    )


def standardised(scores: Float32) -> Float32:
    """z-scores ``[n]`` over a whole catalogue: comparable between models and users."""
    spread = float(scores.std())
    return np.asarray((scores - scores.mean()) / (spread or 1.0), np.float32)
