"""Grants: end users let assistants work with their accounts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mooring.kit.db import Json, Timestamp

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "grant_clients",
        sa.Column("id", sa.String(length=500), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("redirect_uris", Json, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant_clients")),
    )
    op.create_index(op.f("ix_grant_clients_expires_at"), "grant_clients", ["expires_at"], unique=False)
    op.create_table(
        "grant_links",
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("owner_id", sa.String(length=500), nullable=False),
        sa.Column("owner_name", sa.String(length=500), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_grant_links_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_grant_links")),
    )
    op.create_index(op.f("ix_grant_links_browser_hash"), "grant_links", ["browser_hash"], unique=False)
    op.create_index(op.f("ix_grant_links_expires_at"), "grant_links", ["expires_at"], unique=False)
    op.create_index(op.f("ix_grant_links_project_id"), "grant_links", ["project_id"], unique=False)
    op.create_table(
        "grant_requests",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("handle_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("continue_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("client_id", sa.String(length=500), nullable=False),
        sa.Column("client_name", sa.String(length=120), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2000), nullable=False),
        sa.Column("state", sa.String(length=2000), nullable=True),
        sa.Column("challenge", sa.String(length=43), nullable=False),
        sa.Column("resource", sa.String(length=500), nullable=False),
        sa.Column("writes", sa.Boolean(), nullable=False),
        sa.Column("owner_id", sa.String(length=500), nullable=True),
        sa.Column("owner_name", sa.String(length=500), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_grant_requests_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant_requests")),
        sa.UniqueConstraint("continue_hash", name=op.f("uq_grant_requests_continue_hash")),
        sa.UniqueConstraint("handle_hash", name=op.f("uq_grant_requests_handle_hash")),
    )
    op.create_index(op.f("ix_grant_requests_expires_at"), "grant_requests", ["expires_at"], unique=False)
    op.create_index(op.f("ix_grant_requests_project_id"), "grant_requests", ["project_id"], unique=False)
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("client_id", sa.String(length=500), nullable=False),
        sa.Column("client_name", sa.String(length=120), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2000), nullable=False),
        sa.Column("resource", sa.String(length=500), nullable=False),
        sa.Column("owner_id", sa.String(length=500), nullable=False),
        sa.Column("owner_name", sa.String(length=500), nullable=False),
        sa.Column("writes", sa.Boolean(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("code_challenge", sa.String(length=43), nullable=False),
        sa.Column("code_expires_at", Timestamp(), nullable=False),
        sa.Column("code_used_at", Timestamp(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("last_used_at", Timestamp(), nullable=True),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.Column("revoked_at", Timestamp(), nullable=True),
        sa.Column("revoked_by", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_grants_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_grants_code_hash")),
    )
    op.create_index(op.f("ix_grants_expires_at"), "grants", ["expires_at"], unique=False)
    op.create_index("ix_grants_owner", "grants", ["project_id", "owner_id", "created_at"], unique=False)
    op.create_table(
        "grant_tokens",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("grant_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("parent", sa.LargeBinary(length=32), nullable=True),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=True),
        sa.Column("used_at", Timestamp(), nullable=True),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["grants.id"], name=op.f("fk_grant_tokens_grant_id_grants"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_grant_tokens")),
    )
    op.create_index(op.f("ix_grant_tokens_expires_at"), "grant_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_grant_tokens_grant_id"), "grant_tokens", ["grant_id"], unique=False)
    op.create_table(
        "grant_accounts",
        sa.Column("grant_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_grant_accounts_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["grants.id"], name=op.f("fk_grant_accounts_grant_id_grants"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("grant_id", "account_id", name=op.f("pk_grant_accounts")),
    )
    op.create_index(op.f("ix_grant_accounts_account_id"), "grant_accounts", ["account_id"], unique=False)
    op.add_column("project_settings", sa.Column("assistants", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("project_settings", sa.Column("assistant_login_url", sa.String(length=2000), nullable=True))
