"""Where the use that an item speaks of is not approved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the column; what was written before names no country."""
    op.add_column("catalog_items", sa.Column("off_label_countries", sa.JSON))
