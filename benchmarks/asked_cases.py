"""Requests of the past with what their users went for afterwards: searches, and doctors sought."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.models.nlp.query_clicks import WINDOW_S
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES, TIMESTAMP


@dataclass(slots=True)
class Case:
    """One request, and what was wanted after it."""

    user_id: str
    query: str
    now_unix_s: int
    wanted: set[str] = field(default_factory=set)


def searches(dataset: Dataset, start: datetime, end: datetime) -> list[Case]:
    """Searches of a period that led to something: what was opened within half an hour."""
    known = set(dataset.items["item_id"].to_pylist())
    last: dict[str, Case] = {}
    found: list[Case] = []
    for event in _during(dataset.events, "time", start, end).to_pylist():
        at_unix_s, user_id = int(event["time"].timestamp()), event["user_id"]
        if event["event_type"] == "search" and event["query"]:
            last[user_id] = Case(user_id, event["query"], at_unix_s)
            found.append(last[user_id])
        elif (
            event["event_type"] in POSITIVE_EVENT_TYPES
            and event["item_id"] in known
            and user_id in last
            and at_unix_s - last[user_id].now_unix_s <= WINDOW_S
        ):
            last[user_id].wanted.add(event["item_id"])
    return [case for case in found if case.wanted]


def new_ties(dataset: Dataset, start: datetime, end: datetime) -> list[Case]:
    """Every doctor who tied to others in a period, asking at its beginning; ties that ran either
    way before are not wanted anew."""
    before = dataset.edges.filter(
        pc.fill_null(pc.less(dataset.edges["created_at"], pa.scalar(start, TIMESTAMP)), True)
    )
    tied = set(zip(*(before[end].to_pylist() for end in ENDS), strict=True))
    found: dict[str, Case] = {}
    for edge in _during(dataset.edges, "created_at", start, end).to_pylist():
        source, target = (edge[end] for end in ENDS)
        if source != target and (source, target) not in tied and (target, source) not in tied:
            case = found.setdefault(source, Case(source, "", int(start.timestamp())))
            case.wanted.add(target)
    return list(found.values())


ENDS = ("source_user_id", "target_user_id")


def _during(table: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    begun = pc.greater_equal(table[column], pa.scalar(start, TIMESTAMP))
    over = pc.less(table[column], pa.scalar(end, TIMESTAMP))
    return table.filter(pc.fill_null(pc.and_(begun, over), False)).sort_by(column)
