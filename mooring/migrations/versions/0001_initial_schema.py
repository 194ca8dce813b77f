"""initial schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mooring.kit.db import BigId, Json, Timestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "changes",
        sa.Column("seq", BigId, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_at"), "changes", ["at"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("lease_until", Timestamp(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=True),
        sa.Column("payload", Json, nullable=False),
        sa.Column("run_at", Timestamp(), nullable=False),
        sa.Column("every_seconds", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", Timestamp(), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_claim", "jobs", ["state", "run_at"], unique=False)
    op.create_index("uq_jobs_kind_key", "jobs", ["kind", "key"], unique=True)
    op.create_table(
        "organizations",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("name", name=op.f("uq_organizations_name")),
    )
    op.create_table(
        "request_logs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("category", sa.String(length=20), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("origin_owner_id", sa.String(length=200), nullable=True),
        sa.Column("provider", sa.String(length=80), nullable=True),
        sa.Column("service", sa.String(length=40), nullable=True),
        sa.Column("resource", sa.String(length=80), nullable=True),
        sa.Column("action", sa.String(length=120), nullable=True),
        sa.Column("method", sa.String(length=20), nullable=False),
        sa.Column("path", sa.String(length=2000), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(length=80), nullable=True),
        sa.Column("started_at", Timestamp(), nullable=False),
        sa.Column("ended_at", Timestamp(), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("source_type", sa.String(length=40), nullable=False),
        sa.Column("source_id", sa.String(length=80), nullable=True),
        sa.Column("source_ip", sa.String(length=64), nullable=True),
        sa.Column("steps", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_logs")),
    )
    op.create_index("ix_request_logs_account", "request_logs", ["project_id", "account_id", "id"], unique=False)
    op.create_index("ix_request_logs_project_id", "request_logs", ["project_id", "id"], unique=False)
    op.create_table(
        "request_details",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_request_details")),
    )
    op.create_index(op.f("ix_request_details_account_id"), "request_details", ["account_id"], unique=False)
    op.create_index(op.f("ix_request_details_expires_at"), "request_details", ["expires_at"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("organization_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_projects_organization_id_organizations"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_index(op.f("ix_projects_organization_id"), "projects", ["organization_id"], unique=False)
    op.create_table(
        "project_settings",
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("display_name", sa.String(length=120), nullable=True),
        sa.Column("logo", sa.LargeBinary(), nullable=True),
        sa.Column("logo_type", sa.String(length=20), nullable=True),
        sa.Column("accent_light", sa.String(length=7), nullable=True),
        sa.Column("accent_dark", sa.String(length=7), nullable=True),
        sa.Column("support_contact", sa.String(length=500), nullable=True),
        sa.Column("default_language", sa.String(length=5), nullable=True),
        sa.Column("allowed_origins", Json, nullable=False),
        sa.Column("return_urls", Json, nullable=False),
        sa.Column("offer_all_methods", sa.Boolean(), nullable=False),
        sa.Column("advanced_logs", sa.String(length=10), nullable=False),
        sa.Column("advanced_logs_days", sa.Integer(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_settings_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_settings")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("last_used_at", Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_api_keys_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_project_id"), "api_keys", ["project_id"], unique=False)
    op.create_table(
        "auth_configs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("connector_key", sa.String(length=80), nullable=False),
        sa.Column("method_key", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("environment", sa.String(length=40), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("setup", Json, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_auth_configs_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_configs")),
    )
    op.create_index("ix_auth_configs_project_created", "auth_configs", ["project_id", "created_at"], unique=False)
    op.create_index(
        "uq_auth_configs_default",
        "auth_configs",
        ["project_id", "connector_key"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_table(
        "connect_sessions",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("origin_owner_id", sa.String(length=500), nullable=False),
        sa.Column("origin_owner_name", sa.String(length=500), nullable=False),
        sa.Column("origin_username", sa.String(length=500), nullable=True),
        sa.Column("provider", sa.String(length=80), nullable=True),
        sa.Column("integration_id", sa.String(length=36), nullable=True),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("categories", Json, nullable=True),
        sa.Column("label", sa.String(length=500), nullable=True),
        sa.Column("metadata", Json, nullable=True),
        sa.Column("multiple", sa.Boolean(), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("external_trigger_token", sa.String(length=36), nullable=False),
        sa.Column("manage_accounts", sa.Boolean(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_connect_sessions_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connect_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_connect_sessions_token_hash")),
    )
    op.create_index(op.f("ix_connect_sessions_expires_at"), "connect_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_connect_sessions_project_id"), "connect_sessions", ["project_id"], unique=False)
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("owner_kind", sa.String(length=20), nullable=False),
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("kek_id", sa.String(length=40), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_data_keys_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
    )
    op.create_index(op.f("ix_data_keys_kek_id"), "data_keys", ["kek_id"], unique=False)
    op.create_index(op.f("ix_data_keys_project_id"), "data_keys", ["project_id"], unique=False)
    op.create_index("uq_data_keys_owner", "data_keys", ["owner_kind", "owner_id"], unique=True)
    op.create_table(
        "events",
        sa.Column("seq", BigId, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("event", sa.String(length=80), nullable=False),
        sa.Column("record_type", sa.String(length=60), nullable=False),
        sa.Column("record_id", sa.String(length=200), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("payload", Json, nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_events_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
    )
    op.create_index("ix_events_account_seq", "events", ["project_id", "account_id", "seq"], unique=False)
    op.create_index(op.f("ix_events_created_at"), "events", ["created_at"], unique=False)
    op.create_index("ix_events_project_seq", "events", ["project_id", "seq"], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("events", Json, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=40), nullable=True),
        sa.Column("disabled_at", Timestamp(), nullable=True),
        sa.Column("failing_since", Timestamp(), nullable=True),
        sa.Column("paused_until", Timestamp(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_webhook_endpoints_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_project_created", "webhook_endpoints", ["project_id", "created_at", "id"], unique=False
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("auth_config_id", sa.String(length=36), nullable=True),
        sa.Column("connector_key", sa.String(length=80), nullable=False),
        sa.Column("origin_owner_id", sa.String(length=500), nullable=False),
        sa.Column("origin_owner_name", sa.String(length=500), nullable=False),
        sa.Column("origin_username", sa.String(length=500), nullable=True),
        sa.Column("owner_slot", sa.String(length=64), nullable=True),
        sa.Column("label", sa.String(length=500), nullable=True),
        sa.Column("metadata", Json, nullable=True),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("status_reasons", Json, nullable=False),
        sa.Column("setup", Json, nullable=False),
        sa.Column("granted_scopes", Json, nullable=True),
        sa.Column("missing_scopes", Json, nullable=False),
        sa.Column("identity", sa.String(length=500), nullable=True),
        sa.Column("identity_label", sa.String(length=500), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["auth_config_id"],
            ["auth_configs.id"],
            name=op.f("fk_accounts_auth_config_id_auth_configs"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_accounts_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("owner_slot", name=op.f("uq_accounts_owner_slot")),
    )
    op.create_index(op.f("ix_accounts_auth_config_id"), "accounts", ["auth_config_id"], unique=False)
    op.create_index("ix_accounts_owner", "accounts", ["project_id", "origin_owner_id"], unique=False)
    op.create_index("ix_accounts_project_created", "accounts", ["project_id", "created_at", "id"], unique=False)
    op.create_table(
        "connection_attempts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_id", BigId, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("error_code", sa.String(length=100), nullable=True),
        sa.Column("error_description", sa.String(length=1000), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["connect_sessions.id"],
            name=op.f("fk_connection_attempts_session_id_connect_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_attempts")),
    )
    op.create_index("ix_connection_attempts_session", "connection_attempts", ["session_id", "created_at"], unique=False)
    op.create_table(
        "connection_launches",
        sa.Column("attempt_id", sa.String(length=36), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("auth_config_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("return_url", sa.String(length=2000), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["connection_attempts.id"],
            name=op.f("fk_connection_launches_attempt_id_connection_attempts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["auth_config_id"],
            ["auth_configs.id"],
            name=op.f("fk_connection_launches_auth_config_id_auth_configs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_connection_launches")),
    )
    op.create_index(op.f("ix_connection_launches_expires_at"), "connection_launches", ["expires_at"], unique=False)
    op.create_table(
        "oauth_transactions",
        sa.Column("state_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=80), nullable=False),
        sa.Column("session_id", BigId, nullable=False),
        sa.Column("attempt_id", sa.String(length=36), nullable=False),
        sa.Column("auth_config_id", sa.String(length=36), nullable=False),
        sa.Column("connector_key", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("browser_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2000), nullable=False),
        sa.Column("return_url", sa.String(length=2000), nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=False),
        sa.Column("consumed_at", Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(
            ["auth_config_id"],
            ["auth_configs.id"],
            name=op.f("fk_oauth_transactions_auth_config_id_auth_configs"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_oauth_transactions_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["connect_sessions.id"],
            name=op.f("fk_oauth_transactions_session_id_connect_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_oauth_transactions")),
    )
    op.create_index(op.f("ix_oauth_transactions_expires_at"), "oauth_transactions", ["expires_at"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("event_seq", BigId, nullable=False),
        sa.Column("lane", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", Timestamp(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("delivered_at", Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id_webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["event_seq"], ["events.seq"], name=op.f("fk_webhook_deliveries_event_seq_events"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "event_seq", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_event_seq"), "webhook_deliveries", ["event_seq"], unique=False)
    op.create_index(
        "ix_webhook_deliveries_lane", "webhook_deliveries", ["endpoint_id", "lane", "status", "event_seq"], unique=False
    )
    op.create_index(
        "ix_webhook_deliveries_status", "webhook_deliveries", ["endpoint_id", "status", "event_seq"], unique=False
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_secrets_endpoint_id_webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets_endpoint_id"), "webhook_secrets", ["endpoint_id"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.Column("refresh_at", Timestamp(), nullable=True),
        sa.Column("refresh_expires_at", Timestamp(), nullable=True),
        sa.Column("refreshable", sa.Boolean(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", Timestamp(), nullable=True),
        sa.Column("pending_generation", sa.Integer(), nullable=True),
        sa.Column("pending_since", Timestamp(), nullable=True),
        sa.Column("retry_at", Timestamp(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_outcome", sa.String(length=40), nullable=True),
        sa.Column("last_error", sa.String(length=500), nullable=True),
        sa.Column("typed_at", Timestamp(), nullable=False),
        sa.Column("expected_failure_at", Timestamp(), nullable=True),
        sa.Column("expected_failure_reason", sa.String(length=40), nullable=True),
        sa.Column("failure_announced_at", Timestamp(), nullable=True),
        sa.Column("probe_at", Timestamp(), nullable=True),
        sa.Column("probe_pause", sa.Double(), nullable=True),
        sa.Column("probe_failures", sa.Integer(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_credentials_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_credentials")),
    )
    op.create_index(op.f("ix_credentials_expected_failure_at"), "credentials", ["expected_failure_at"], unique=False)
    op.create_index(op.f("ix_credentials_probe_at"), "credentials", ["probe_at"], unique=False)
    op.create_index(op.f("ix_credentials_refresh_at"), "credentials", ["refresh_at"], unique=False)
    op.create_table(
        "webhook_attempts",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("event_seq", BigId, nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("request_headers", Json, nullable=False),
        sa.Column("response_headers", Json, nullable=False),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id", "event_seq"],
            ["webhook_deliveries.endpoint_id", "webhook_deliveries.event_seq"],
            name="fk_webhook_attempts_delivery",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index(
        "ix_webhook_attempts_delivery", "webhook_attempts", ["endpoint_id", "event_seq", "id"], unique=False
    )
