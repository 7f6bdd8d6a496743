"""The SQL tables of the models' registry. Times are milliseconds since 1970, UTC.

Migrations make the tables (:mod:`recmesh.storage.migrations`).
"""

from __future__ import annotations

import sqlalchemy as sa

from recmesh.storage.catalog_tables import METADATA

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

MODEL_VERSIONS = sa.Table(
    "model_versions",
    METADATA,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("contact", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("registered_at", sa.BigInteger, nullable=False),
)
"""``card`` is the artifact's, in JSON."""

ALONE = sa.text("stage IN ('shadow', 'canary', 'live')")

sa.Index(
    "ix_model_versions_alone",
    MODEL_VERSIONS.c.model,
    MODEL_VERSIONS.c.stage,
    unique=True,
    sqlite_where=ALONE,
    postgresql_where=ALONE,
)

MODEL_CHANGES = sa.Table(
    "model_changes",
    METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("did", sa.Text, nullable=False),
    sa.Column("from_stage", sa.Text, nullable=False),
    sa.Column("to_stage", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
"""Appended to, never changed. Stages are empty where a change was none of a stage."""
