"""The event log: events, what was quarantined, and how far consumers have come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_IS_SLOT = sa.text("event_type = 'impression' AND request_id <> '' AND counted")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("payload_hash", sa.LargeBinary, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
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
        sa.UniqueConstraint("caller", "event_id", name="uq_events_caller_event_id"),
    )
    op.create_index("ix_events_user_id", "events", ["user_id"])
    op.create_index("ix_events_item_id", "events", ["item_id"])
    op.create_index(
        "uq_events_slot",
        "events",
        ["request_id", "item_id"],
        unique=True,
        sqlite_where=_IS_SLOT,
        postgresql_where=_IS_SLOT,
    )
    op.create_table(
        "quarantined_events",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("payload_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    for column in ("user_id", "item_id", "received_at"):
        op.create_index(f"ix_quarantined_events_{column}", "quarantined_events", [column])
    head = op.create_table(
        "event_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0}])
    op.create_table(
        "event_consumers",
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
