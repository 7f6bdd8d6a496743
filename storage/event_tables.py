"""The event log's SQL tables. Times are milliseconds since 1970, UTC.

Migrations make the tables (:mod:`recmesh.storage.migrations`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa

from recmesh.storage.catalog_tables import METADATA

# SQLite keeps rows in the order of an INTEGER key, and needs no index for it.
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("payload_hash", sa.LargeBinary, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False, index=True),
    sa.Column("item_id", sa.Text, nullable=False, index=True),
    sa.Column("surface", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("dwell_ms", sa.BigInteger),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("campaign_id", sa.Text, nullable=False),
    sa.Column("policy_version", sa.Text, nullable=False),
    sa.Column("counted", sa.Boolean, nullable=False),
    sa.Column("experiment_arms", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("caller", "event_id", name="uq_events_caller_event_id"),
)
"""``time`` is the client's, ``received_at`` the server's; texts are empty where unknown.

``experiment_arms`` is a JSON object of arms by experiment as :func:`arms_text` writes it."""


def arms_text(arms: Mapping[str, str]) -> str:
    """Arms by experiment as the events' column holds them; empty: there are none."""
    return json.dumps(dict(arms), sort_keys=True, separators=(",", ":")) if arms else ""


IS_SLOT = sa.text("event_type = 'impression' AND request_id <> '' AND counted")

sa.Index(
    "uq_events_slot",
    EVENTS.c.request_id,
    EVENTS.c.item_id,
    unique=True,
    sqlite_where=IS_SLOT,
    postgresql_where=IS_SLOT,
)

QUARANTINED = sa.Table(
    "quarantined_events",
    METADATA,
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("payload_hash", sa.LargeBinary, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False, index=True),
    sa.Column("item_id", sa.Text, nullable=False, index=True),
    sa.Column("received_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("event", sa.LargeBinary, nullable=False),
)
"""``event`` is the ``recmesh.v1.Event`` as it came."""

EVENT_HEAD = sa.Table(
    "event_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""One row: the last sequence number given."""

CONSUMER_POSITIONS = sa.Table(
    "event_consumers",
    METADATA,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""The last event that a consumer's state holds."""
