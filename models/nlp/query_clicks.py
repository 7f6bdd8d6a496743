"""What doctors clicked after a search: the log that search and the encoder learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES, TIMESTAMP

WINDOW_S = 1800
"""A click later than that belongs to no search."""

Log = Iterable[tuple[str, Mapping[str, float]]]
"""Queries with the weights of the items they led to, by item id."""


def queries_by_item(log: Log) -> dict[str, list[str]]:
    """By item id, the queries that led to it, in the log's order."""
    asked: dict[str, list[str]] = {}
    for query, weights in log:
        for item_id in weights:
            asked.setdefault(item_id, []).append(query)
    return asked


def query_clicks(
    dataset: Dataset,
    until: datetime | None = None,
    window_s: int = WINDOW_S,
    min_users: int = 1,
) -> dict[str, Counter[str]]:
    """Clicks by query and item.

    A wanted item belongs to the user's last search before it, if that is at most ``window_s``
    back. Queries are compared without case and outer blanks.

    Args:
        dataset: events and items; clicks on items it does not know are passed over.
        until: no event at or after this UTC moment is used.
        window_s: longest time between search and click.
        min_users: queries that fewer users asked are passed over: what one person typed may say
            who they, or their patients, are.
    """
    events = dataset.events
    kept = pc.or_(
        pc.and_(pc.equal(events["event_type"], "search"), pc.not_equal(events["query"], "")),
        pc.and_(
            pc.is_in(events["event_type"], pa.array(sorted(POSITIVE_EVENT_TYPES))),
            pc.is_in(events["item_id"], dataset.items["item_id"].combine_chunks()),
        ),
    )
    if until is not None:
        kept = pc.and_(kept, pc.less(events["time"], pa.scalar(until, TIMESTAMP)))
    events = events.filter(kept)
    last: dict[str, tuple[str, int]] = {}
    clicks: dict[str, Counter[str]] = {}
    asked_by: dict[str, set[str]] = {}
    for user_id, event_type, item_id, query, time_ms in zip(
        events["user_id"].to_pylist(),
        events["event_type"].to_pylist(),
        events["item_id"].to_pylist(),
        events["query"].to_pylist(),
        events["time"].cast(pa.int64()).to_pylist(),
        strict=True,
    ):
        if event_type == "search":
            last[user_id] = (query.strip().casefold(), time_ms)
            asked_by.setdefault(last[user_id][0], set()).add(user_id)
        elif user_id in last:
            asked, asked_ms = last[user_id]
            if time_ms - asked_ms <= window_s * 1000:
                clicks.setdefault(asked, Counter())[item_id] += 1
    return {query: items for query, items in clicks.items() if len(asked_by[query]) >= min_users}
