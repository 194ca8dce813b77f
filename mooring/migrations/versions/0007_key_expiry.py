"""API keys that stop by themselves"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mooring.kit.db import Timestamp

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    op.add_column("api_keys", sa.Column("expires_at", Timestamp(), nullable=True))
