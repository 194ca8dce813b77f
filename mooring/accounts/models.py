"""Tables of the accounts slice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, event
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class Account(Base):
    """A linked account. `status` is what was stored; `lifecycle.effective` adds the auth config's state to it."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    auth_config_id: Mapped[str | None] = mapped_column(ForeignKey("auth_configs.id", ondelete="RESTRICT"), index=True)
    connector_key: Mapped[str] = mapped_column(String(80))
    origin_owner_id: Mapped[str] = mapped_column(String(500))
    origin_owner_name: Mapped[str] = mapped_column(String(500))
    origin_username: Mapped[str | None] = mapped_column(String(500))
    owner_slot: Mapped[str | None] = mapped_column(String(64), unique=True)
    """Hash of project, owner and connector for the account that the upsert rule finds; null for `multiple` ones."""
    label: Mapped[str | None] = mapped_column(String(500))
    meta: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    type: Mapped[str] = mapped_column(String(20), default="production")
    shared: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(String(20))
    status_reasons: Mapped[list[Any]]
    setup: Mapped[dict[str, Any]]
    granted_scopes: Mapped[list[str] | None]
    missing_scopes: Mapped[list[str]]
    identity: Mapped[str | None] = mapped_column(String(500))
    identity_label: Mapped[str | None] = mapped_column(String(500))
    search_text: Mapped[str] = mapped_column(String(520), default="")
    """The names by which people look for it, folded and cut: PostgreSQL takes no index row over 2.7 kB."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_accounts_project_created", "project_id", "created_at", "id"),
        Index("ix_accounts_owner", "project_id", "origin_owner_id"),
        Index("ix_accounts_counts", "project_id", "status", "auth_config_id"),
        # Holds all that a search looks at, so that it reads no row but those that it shows.
        Index("ix_accounts_search", "project_id", "created_at", "id", "status", "search_text"),
    )


SEARCHED = ("origin_owner_name", "origin_owner_id", "label", "origin_username", "identity_label")


def search_text_of(values: Mapping[str, Any]) -> str:
    """What a search compares with: 100 characters of each name."""
    return "\n".join(str(values.get(name) or "")[:100].casefold()[:100] for name in SEARCHED)


@event.listens_for(Account, "before_insert")
@event.listens_for(Account, "before_update")
def _keep_search_text(_mapper: Any, _connection: Any, account: Account) -> None:
    account.search_text = search_text_of({name: getattr(account, name) for name in SEARCHED})


class Credential(Base):
    """The sealed credential of one account, and the lease under which it is renewed.

    `generation` counts versions of the sealed value. `fence` counts leases: a holder whose fence is no longer the row's
    has been evicted and can store nothing. `pending_*` is the intent, committed before the first byte leaves (rule R3).
    """

    __tablename__ = "credentials"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    generation: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime | None]
    refresh_at: Mapped[datetime | None] = mapped_column(index=True)
    refresh_expires_at: Mapped[datetime | None]
    refreshable: Mapped[bool]
    fence: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    pending_generation: Mapped[int | None]
    pending_since: Mapped[datetime | None]
    retry_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    last_outcome: Mapped[str | None] = mapped_column(String(40))
    last_error: Mapped[str | None] = mapped_column(String(500))
    typed_at: Mapped[datetime]
    """When a person last entered or consented to it; the age of a key counts from here."""
    expected_failure_at: Mapped[datetime | None] = mapped_column(index=True)
    expected_failure_reason: Mapped[str | None] = mapped_column(String(40))
    failure_announced_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None] = mapped_column(index=True)
    probe_pause: Mapped[float | None]
    probe_failures: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime]
    """When this generation was stored."""
