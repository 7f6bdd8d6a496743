"""Which arms of which experiments the page of an event was of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; what was recorded before took part in nothing."""
    op.add_column(
        "events", sa.Column("experiment_arms", sa.Text, nullable=False, server_default="")
    )
