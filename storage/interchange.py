"""The interchange format: the five tables that data enters in.

This module is the one statement of the format; ``docs/interchange.md`` explains it,
ingestion enforces it, converters and the synthetic world produce it. Times are UTC.
Lists may be empty, never null.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("ms", tz="UTC")
TEXT_LIST = pa.list_(pa.string())

EVENT_TYPES: dict[str, int] = {
    "impression": 1,
    "click": 2,
    "dwell": 3,
    "save": 4,
    "share": 5,
    "dismiss": 6,
    "follow": 7,
    "search": 8,
    "swipe": 9,
}
"""Event type names and their numbers in ``recmesh.v1.EventType``."""

POSITIVE_EVENT_TYPES: frozenset[str] = frozenset(
    {"click", "dwell", "save", "share", "follow", "swipe"}
)
"""Events that say a user wanted the item."""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its columns, which of them identify a row, and which must be filled."""

    name: str
    columns: pa.Schema
    key: tuple[str, ...]
    required: tuple[str, ...]

    def keys_of(self, table: pa.Table) -> pa.Array:
        """One string a row that identifies it."""
        key = pc.binary_join_element_wise(*(table[name] for name in self.key), "\x00")
        return key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key


ITEMS = TableSchema(
    name="items",
    columns=pa.schema(
        [
            ("item_id", pa.string()),
            ("content_type", pa.string()),  # article, video, case, guideline, …
            ("title", pa.string()),
            ("abstract", pa.string()),
            ("body", pa.string()),
            ("topics", TEXT_LIST),
            ("specialties", TEXT_LIST),  # empty: for all
            ("language", pa.string()),  # ISO 639-1; empty: unknown
            ("countries", TEXT_LIST),  # licence countries, ISO 3166-1; empty: all
            ("authors", TEXT_LIST),
            ("published_at", TIMESTAMP),  # null: unknown, always shown
            ("expires_at", TIMESTAMP),  # null: never
            ("sponsor", pa.string()),  # empty: nobody
            ("off_label_countries", TEXT_LIST),  # its use is not approved there; empty: nowhere
        ]
    ),
    key=("item_id",),
    required=("item_id", "content_type", "title"),
)

USERS = TableSchema(
    name="users",
    columns=pa.schema(
        [
            ("user_id", pa.string()),
            ("specialties", TEXT_LIST),  # most important first
            ("country", pa.string()),
            ("language", pa.string()),
            ("interests", pa.string()),  # free text
            ("consents_personalisation", pa.bool_()),
            ("consents_sponsored", pa.bool_()),
            ("registered_at", TIMESTAMP),
        ]
    ),
    key=("user_id",),
    required=("user_id",),
)

EVENTS = TableSchema(
    name="events",
    columns=pa.schema(
        [
            ("event_id", pa.string()),
            ("user_id", pa.string()),
            ("item_id", pa.string()),  # empty for searches; a user id for follows of doctors
            ("event_type", pa.string()),  # a key of EVENT_TYPES
            ("time", TIMESTAMP),
            ("surface", pa.string()),
            ("rank", pa.int32()),  # slot from 1; 0: unknown
            ("dwell_s", pa.float32()),  # ≥ 0; null: unknown
            ("rating", pa.float32()),  # of data sets that have one; null otherwise
            ("query", pa.string()),
            ("campaign_id", pa.string()),  # of sponsored impressions and clicks
        ]
    ),
    key=("event_id",),
    required=("event_id", "user_id", "event_type", "time"),
)

EDGES = TableSchema(
    name="edges",
    columns=pa.schema(
        [
            ("source_user_id", pa.string()),
            ("target_user_id", pa.string()),
            ("edge_type", pa.string()),  # follow, colleague, advice, discussion, friend
            ("weight", pa.float32()),  # > 0
            ("created_at", TIMESTAMP),
        ]
    ),
    key=("source_user_id", "target_user_id", "edge_type"),
    required=("source_user_id", "target_user_id", "edge_type"),
)

CAMPAIGNS = TableSchema(
    name="campaigns",
    columns=pa.schema(
        [
            ("campaign_id", pa.string()),
            ("sponsor", pa.string()),
            ("item_ids", TEXT_LIST),
            ("specialties", TEXT_LIST),  # targeting; empty: all
            ("countries", TEXT_LIST),
            ("languages", TEXT_LIST),
            ("starts_at", TIMESTAMP),
            ("ends_at", TIMESTAMP),  # exclusive, after starts_at
            ("budget_impressions", pa.int64()),  # > 0
            ("frequency_cap_per_day", pa.int32()),  # 0: the policy's
            ("value", pa.float32()),  # relative worth of an impression, in [0, 1]
            ("disclosure", pa.string()),
        ]
    ),
    key=("campaign_id",),
    required=("campaign_id", "sponsor", "starts_at", "ends_at", "budget_impressions", "disclosure"),
)

TABLES: dict[str, TableSchema] = {t.name: t for t in (ITEMS, USERS, EVENTS, EDGES, CAMPAIGNS)}
"""Every table by name. A file's stem is a table's name, or that, a hyphen and any label."""

QUERIES, QRELS, CITATIONS = "queries.jsonl", "qrels.tsv", "citations.tsv"
"""Files that converters write beside the tables, for evaluation; ingestion passes them by."""
