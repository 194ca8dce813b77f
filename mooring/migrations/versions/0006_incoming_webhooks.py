"""Addresses that providers send their webhooks to"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mooring.kit.db import Timestamp

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "incoming_endpoints",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("provider", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("auth_config_id", sa.String(length=36), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("last_used_at", Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_incoming_endpoints_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["auth_config_id"],
            ["auth_configs.id"],
            name=op.f("fk_incoming_endpoints_auth_config_id_auth_configs"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_incoming_endpoints_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incoming_endpoints")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_incoming_endpoints_token_hash")),
    )
    op.create_index(op.f("ix_incoming_endpoints_account_id"), "incoming_endpoints", ["account_id"], unique=False)
    op.create_index(
        op.f("ix_incoming_endpoints_auth_config_id"), "incoming_endpoints", ["auth_config_id"], unique=False
    )
    op.create_index(op.f("ix_incoming_endpoints_project_id"), "incoming_endpoints", ["project_id"], unique=False)
    op.create_table(
        "incoming_deliveries",
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["incoming_endpoints.id"],
            name=op.f("fk_incoming_deliveries_endpoint_id_incoming_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "key", name=op.f("pk_incoming_deliveries")),
    )
    op.create_index(op.f("ix_incoming_deliveries_created_at"), "incoming_deliveries", ["created_at"], unique=False)
