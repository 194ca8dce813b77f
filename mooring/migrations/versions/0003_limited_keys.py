"""API keys may be limited to some accounts and actions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mooring.kit.db import Json

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column("api_keys", sa.Column("allowed_accounts", Json, nullable=True))
    op.add_column("api_keys", sa.Column("allowed_actions", Json, nullable=True))
