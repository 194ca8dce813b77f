"""Tables of the incoming slice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from mooring.kit.db import Base


class IncomingEndpoint(Base):
    """An address that one provider sends to, for one account or for all of an auth config."""

    __tablename__ = "incoming_endpoints"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(80))
    account_id: Mapped[str | None] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    auth_config_id: Mapped[str | None] = mapped_column(ForeignKey("auth_configs.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the token in the address; 122 bits of chance or more."""
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The secret that the provider signs with, sealed with the data key of its account or auth config."""
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


class IncomingDelivery(Base):
    """One delivery that was taken: its repetition is answered and passed on no more."""

    __tablename__ = "incoming_deliveries"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("incoming_endpoints.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
