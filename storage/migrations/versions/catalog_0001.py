"""The catalog: rows written by callers, erased users, and how far the vector index followed."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TABLES: dict[str, tuple[list[str], list[tuple[str, type]]]] = {
    "items": (
        ["item_id"],
        [
            ("content_type", sa.Text),
            ("title", sa.Text),
            ("abstract", sa.Text),
            ("body", sa.Text),
            ("topics", sa.JSON),
            ("specialties", sa.JSON),
            ("language", sa.Text),
            ("countries", sa.JSON),
            ("authors", sa.JSON),
            ("published_at", sa.BigInteger),
            ("expires_at", sa.BigInteger),
            ("sponsor", sa.Text),
        ],
    ),
    "users": (
        ["user_id"],
        [
            ("specialties", sa.JSON),
            ("country", sa.Text),
            ("language", sa.Text),
            ("interests", sa.Text),
            ("consents_personalisation", sa.Boolean),
            ("consents_sponsored", sa.Boolean),
            ("registered_at", sa.BigInteger),
        ],
    ),
    "edges": (
        ["source_user_id", "target_user_id", "edge_type"],
        [("weight", sa.Float), ("created_at", sa.BigInteger)],
    ),
    "campaigns": (
        ["campaign_id"],
        [
            ("sponsor", sa.Text),
            ("item_ids", sa.JSON),
            ("specialties", sa.JSON),
            ("countries", sa.JSON),
            ("languages", sa.JSON),
            ("starts_at", sa.BigInteger),
            ("ends_at", sa.BigInteger),
            ("budget_impressions", sa.BigInteger),
            ("frequency_cap_per_day", sa.BigInteger),
            ("value", sa.Float),
            ("disclosure", sa.Text),
        ],
    ),
}


def upgrade() -> None:
    """Makes the tables."""
    for name, (keys, columns) in _TABLES.items():
        op.create_table(
            f"catalog_{name}",
            *(sa.Column(key, sa.Text, primary_key=True) for key in keys),
            *(sa.Column(column, kind) for column, kind in columns),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("deleted", sa.Boolean, nullable=False),
        )
        op.create_index(f"ix_catalog_{name}_seq", f"catalog_{name}", ["seq"])
    op.create_index("ix_catalog_edges_target", "catalog_edges", ["target_user_id"])
    head = op.create_table(
        "catalog_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("erasure_salt", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "erasure_salt": secrets.token_bytes(32)}])
    op.create_table(
        "erased_users",
        sa.Column("id_hash", sa.LargeBinary, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_erased_users_seq", "erased_users", ["seq"])
    op.create_table(
        "index_positions",
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
