"""Who calls with an access token: a grant, as a caller that is limited to its accounts and to what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.models import Account
from mooring.grants import service
from mooring.grants.models import Grant, GrantToken
from mooring.identity.models import Project, ProjectSettingsRow
from mooring.identity.service import Caller, ProjectId
from mooring.kit import clock, ids
from mooring.kit.cache import Cache
from mooring.kit.db import Database
from mooring.protocol.redact import clean_line


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of an access token."""

    caller: Caller
    client_name: str
    resource: str
    accounts: tuple[str, ...]
    labels: Mapping[str, str]
    """What people call them."""
    until: float  # UNIX time


class Holders:
    """Finds the holder of a token, cached per process; a grant that ends stops in every process within a second."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.cache: Cache[bytes, Holder] = Cache(10_000)

    async def find(self, token: str, resource: str) -> Holder | None:
        """The holder of a token that was given out for this very resource (RFC 8707), or None."""
        if not 0 < len(token) <= 200:
            return None
        hashed = ids.digest(token)
        found = self.cache.get(hashed)
        if found is None:

            async def load() -> tuple[Holder, tuple[str, ...]]:
                async with self._db.read() as tx:
                    grant_id, holder = await _load(tx, hashed)
                tags = (f"grant:{grant_id}", f"project:{holder.caller.project_id}")
                return holder, (*tags, *(f"account:{id}" for id in holder.accounts))

            try:
                found = await self.cache.load(hashed, load)
            except LookupError:
                return None
        if found.until <= clock.timestamp() or found.resource != resource:
            return None
        return found


async def _load(tx: AsyncSession, hashed: bytes) -> tuple[str, Holder]:
    row = (
        await tx.execute(
            select(GrantToken.expires_at, Grant, Project.organization_id, ProjectSettingsRow)
            .join(Grant, Grant.id == GrantToken.grant_id)
            .join(Project, Project.id == Grant.project_id)
            .join(ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id)
            .where(
                GrantToken.hash == hashed,
                GrantToken.kind == "access",
                Grant.revoked_at.is_(None),
                Project.deleted_at.is_(None),
                ProjectSettingsRow.assistants.is_(True),
            )
        )
    ).first()
    if row is None:
        raise LookupError
    until, grant, organization_id, settings = row
    reached = (await service.accounts_of(tx, [grant.id]))[grant.id]
    if not reached:
        raise LookupError
    called = await tx.execute(
        select(Account.id, Account.label, Account.identity_label, Account.origin_username).where(
            Account.id.in_(reached)
        )
    )
    labels = {id: clean_line(next(filter(None, names), id), 80) for id, *names in called}
    caller = Caller(
        grant.id,
        ProjectId(grant.project_id),
        organization_id,
        frozenset({"actions:execute"}),
        advanced_logs=settings.advanced_logs,
        advanced_logs_days=settings.advanced_logs_days,
        accounts=frozenset(reached),
        reads_only=not grant.writes,
    )
    return grant.id, Holder(caller, grant.client_name, grant.resource, tuple(reached), labels, until.timestamp())
