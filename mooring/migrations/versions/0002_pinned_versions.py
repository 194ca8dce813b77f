"""auth configs may stay at a version of their connector"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.add_column("auth_configs", sa.Column("connector_pinned_version", sa.String(length=40), nullable=True))
