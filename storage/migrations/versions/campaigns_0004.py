"""The ledger of sponsored slots, filled from the impressions and clicks recorded before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_IS_OPEN = sa.text("state = 'open'")

# A slot's first click is the one that counts.
_COUNT_CLICKS_ONCE = """
UPDATE events SET counted = false
WHERE event_type = 'click' AND campaign_id <> '' AND EXISTS (
    SELECT 1 FROM events AS earlier
    WHERE earlier.event_type = 'click' AND earlier.campaign_id <> ''
    AND earlier.request_id = events.request_id AND earlier.item_id = events.item_id
    AND earlier.seq < events.seq
)
"""
_CONFIRMED = """
INSERT INTO campaign_slots
    (request_id, item_id, campaign_id, user_id, held_at, confirmed_at, state, clicked)
SELECT request_id, item_id, campaign_id, user_id, received_at, received_at, 'confirmed', false
FROM events WHERE event_type = 'impression' AND campaign_id <> '' AND counted
"""
_CLICKED = """
INSERT INTO campaign_slots
    (request_id, item_id, campaign_id, user_id, held_at, confirmed_at, state, clicked)
SELECT request_id, item_id, campaign_id, user_id, received_at, NULL, 'lapsed', true
FROM events WHERE event_type = 'click' AND campaign_id <> '' AND counted
ON CONFLICT (request_id, item_id) DO UPDATE SET clicked = true
"""
_COUNTS = """
INSERT INTO campaign_counts
    (campaign_id, held, confirmed, clicks, erased_confirmed, erased_clicks)
SELECT campaign_id, 0,
    SUM(CASE WHEN event_type = 'impression' THEN 1 ELSE 0 END),
    SUM(CASE WHEN event_type = 'click' THEN 1 ELSE 0 END),
    0, 0
FROM events
WHERE campaign_id <> '' AND counted AND event_type IN ('impression', 'click')
GROUP BY campaign_id
"""


def upgrade() -> None:
    """Makes the tables, and counts what was recorded before them."""
    op.create_table(
        "campaign_slots",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("campaign_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("held_at", sa.BigInteger, nullable=False),
        sa.Column("confirmed_at", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("clicked", sa.Boolean, nullable=False),
    )
    op.create_index("ix_campaign_slots_item_id", "campaign_slots", ["item_id"])
    op.create_index("ix_campaign_slots_user", "campaign_slots", ["user_id", "campaign_id"])
    op.create_index(
        "ix_campaign_slots_open",
        "campaign_slots",
        ["held_at"],
        sqlite_where=_IS_OPEN,
        postgresql_where=_IS_OPEN,
    )
    op.create_table(
        "campaign_counts",
        sa.Column("campaign_id", sa.Text, primary_key=True),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("confirmed", sa.BigInteger, nullable=False),
        sa.Column("clicks", sa.BigInteger, nullable=False),
        sa.Column("erased_confirmed", sa.BigInteger, nullable=False),
        sa.Column("erased_clicks", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "campaign_prices",
        sa.Column("campaign_id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("dual", sa.Double, nullable=False),
        sa.Column("error", sa.Double, nullable=False),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("planned_lately", sa.Double, nullable=False),
        sa.Column("got_lately", sa.Double, nullable=False),
    )
    op.execute(_COUNT_CLICKS_ONCE)
    op.execute(_CONFIRMED)
    op.execute(_CLICKED)
    op.execute(_COUNTS)
