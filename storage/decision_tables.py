"""The SQL tables of decisions. Times are milliseconds since 1970, UTC.

Migrations make the tables (:mod:`recmesh.storage.migrations`).
"""

from __future__ import annotations

import sqlalchemy as sa

from recmesh.storage.catalog_tables import METADATA

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DECISIONS = sa.Table(
    "decisions",
    METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("decision_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("user_id", sa.Text, nullable=False, index=True),
    sa.Column("surface", sa.Text, nullable=False),
    sa.Column("made_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("of_users", sa.Boolean, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
)
"""``record`` is a ``recmesh.v1.DecisionRecord``, compressed."""

DECISION_LOSSES = sa.Table(
    "decision_losses",
    METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("lost", sa.BigInteger, nullable=False),
)
"""How many records an orchestrator could not keep, when it said so."""
