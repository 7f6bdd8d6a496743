"""The SQL tables of sponsored slots. Times are milliseconds since 1970, UTC.

Migrations make the tables (:mod:`recmesh.storage.migrations`).
"""

from __future__ import annotations

import sqlalchemy as sa

from recmesh.storage.catalog_tables import METADATA

OPEN, CONFIRMED, LAPSED = "open", "confirmed", "lapsed"
"""States of a slot: held and awaiting its impression; shown; clicked, but not shown in time. One
that was neither shown in time nor clicked has no row."""

CAMPAIGN_SLOTS = sa.Table(
    "campaign_slots",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True, index=True),
    sa.Column("campaign_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("held_at", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("clicked", sa.Boolean, nullable=False),
)
"""A page's sponsored slots. One that events named first has their time as ``held_at``."""

sa.Index("ix_campaign_slots_user", CAMPAIGN_SLOTS.c.user_id, CAMPAIGN_SLOTS.c.campaign_id)

IS_OPEN = sa.text("state = 'open'")

sa.Index(
    "ix_campaign_slots_open",
    CAMPAIGN_SLOTS.c.held_at,
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)

CAMPAIGN_COUNTS = sa.Table(
    "campaign_counts",
    METADATA,
    sa.Column("campaign_id", sa.Text, primary_key=True),
    *(
        sa.Column(name, sa.BigInteger, nullable=False)
        for name in ("held", "confirmed", "clicks", "erased_confirmed", "erased_clicks")
    ),
)
"""Moved in the transactions that move slots. What ``erased_…`` counts is in ``confirmed`` and
``clicks`` too, but its events are gone, with users who were erased or because of their age."""

CAMPAIGN_PRICES = sa.Table(
    "campaign_prices",
    METADATA,
    sa.Column("campaign_id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("price", sa.Double, nullable=False),
    sa.Column("dual", sa.Double, nullable=False),
    sa.Column("error", sa.Double, nullable=False),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("planned_lately", sa.Double, nullable=False),
    sa.Column("got_lately", sa.Double, nullable=False),
)
"""The pacer's state after its last step."""
