"""Lists of linked accounts for people: filters, search, keyset pages, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import lifecycle
from mooring.accounts.models import Account, Credential
from mooring.accounts.service import has_status
from mooring.auth_configs.models import AuthConfig
from mooring.identity.service import ProjectId
from mooring.kit import clock

SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody looks for. Empty means no condition."""

    text: str = ""
    status: str = ""
    provider: str = ""
    config_id: str = ""
    type: str = ""
    failing_soon: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """One account in a list."""

    account: Account
    config: AuthConfig | None
    expected_failure_at: datetime | None
    expected_failure_reason: str | None

    @property
    def status(self) -> str:
        """The status as callers see it."""
        return lifecycle.effective(self.account.status, config_active=self.config is None or self.config.active)


Position = tuple[datetime, str]


async def page(
    tx: AsyncSession, project: ProjectId, wanted: Wanted, *, before: Position | None = None, limit: int = 50
) -> tuple[list[Listed], Position | None]:
    """One page, newest first, and the position after it."""
    query: Select[*tuple[Any, ...]] = (
        select(Account, AuthConfig, Credential.expected_failure_at, Credential.expected_failure_reason)
        .outerjoin(AuthConfig, AuthConfig.id == Account.auth_config_id)
        .outerjoin(Credential, Credential.account_id == Account.id)
        .where(Account.project_id == project)
    )
    query = _narrowed(query, wanted)
    if before is not None:
        at, id = before
        # The first condition lets the index find the place; the second decides among accounts of the same moment.
        query = query.where(Account.created_at <= at, or_(Account.created_at < at, Account.id > id))
    query = query.order_by(Account.created_at.desc(), Account.id).limit(limit + 1)
    found = [Listed(*row) for row in await tx.execute(query)]
    rows = found[:limit]
    return rows, (rows[-1].account.created_at, rows[-1].account.id) if len(found) > limit else None


def _narrowed(query: Select[*tuple[Any, ...]], wanted: Wanted) -> Select[*tuple[Any, ...]]:
    if wanted.status:
        query = query.where(has_status(wanted.status))
    else:
        query = query.where(Account.status != "archived")
    if wanted.provider:
        query = query.where(Account.connector_key == wanted.provider)
    if wanted.config_id:
        query = query.where(Account.auth_config_id == wanted.config_id)
    if wanted.type:
        query = query.where(Account.type == wanted.type)
    if wanted.failing_soon:
        soon = clock.now() + SOON
        query = query.where(Credential.expected_failure_at.is_not(None), Credential.expected_failure_at < soon)
    if wanted.text:
        query = query.where(matches(wanted.text))
    return query


def matches(text: str) -> Any:
    """Whether an account's id, owner, label or identity holds a text."""
    columns = (Account.origin_owner_name, Account.origin_owner_id, Account.label, Account.origin_username)
    inside = [column.icontains(text, autoescape=True) for column in columns]
    return or_(Account.id == text, Account.identity_label.icontains(text, autoescape=True), *inside)


async def count_by_config(tx: AsyncSession, project: ProjectId) -> dict[str, int]:
    """Auth config → number of its accounts."""
    rows = await tx.execute(
        select(Account.auth_config_id, func.count())
        .where(Account.project_id == project, Account.status != "archived")
        .group_by(Account.auth_config_id)
    )
    return {row[0]: row[1] for row in rows if row[0] is not None}


async def count_by_status(tx: AsyncSession, project: ProjectId) -> dict[str, int]:
    """Status as callers see it → number of accounts."""
    rows = await tx.execute(
        select(Account.status, AuthConfig.active, func.count())
        .outerjoin(AuthConfig, AuthConfig.id == Account.auth_config_id)
        .where(Account.project_id == project, Account.status != "archived")
        .group_by(Account.status, AuthConfig.active)
    )
    out: dict[str, int] = {}
    for status, active, number in rows:
        shown = lifecycle.effective(status, config_active=active is not False)
        out[shown] = out.get(shown, 0) + number
    return out


async def find(tx: AsyncSession, project: ProjectId, text: str, limit: int = 8) -> Sequence[Account]:
    """The newest accounts that match a text, for the search over everything."""
    rows = await tx.scalars(
        select(Account)
        .where(and_(Account.project_id == project, Account.status != "archived"), matches(text))
        .order_by(Account.created_at.desc(), Account.id)
        .limit(limit)
    )
    return rows.all()


async def credential_of(tx: AsyncSession, account_id: str) -> Credential | None:
    """The credential's row: its times and what the last renewal said. The secret stays sealed."""
    return await tx.get(Credential, account_id)
