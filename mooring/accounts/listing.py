"""Lists of linked accounts for people: filters, search, keyset pages, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select
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
    query: Select[*tuple[Any, ...]] = select(Account.id).where(Account.project_id == project)
    if (
        wanted.status and wanted.status != "inactive"
    ):  # only then: without the joins the search's index is all that is read
        query = query.outerjoin(AuthConfig, AuthConfig.id == Account.auth_config_id)
    if wanted.failing_soon:
        query = query.outerjoin(Credential, Credential.account_id == Account.id)
    query = _narrowed(query, wanted)
    if wanted.status == "inactive":  # found by their configs, of which there are few
        off = (
            await tx.scalars(
                select(AuthConfig.id).where(AuthConfig.project_id == project, AuthConfig.active.is_(False))
            )
        ).all()
        if not off:
            return [], None
        query = query.where(Account.auth_config_id.in_(off))
    if before is not None:
        at, id = before
        # The first condition lets the index find the place; the second decides among accounts of the same moment.
        query = query.where(Account.created_at <= at, or_(Account.created_at < at, Account.id < id))
    order = (Account.created_at.desc(), Account.id.desc())  # as the index runs, so that nothing is sorted
    found = (await tx.scalars(query.order_by(*order).limit(limit + 1))).all()
    rows = await tx.execute(
        select(Account, AuthConfig, Credential.expected_failure_at, Credential.expected_failure_reason)
        .outerjoin(AuthConfig, AuthConfig.id == Account.auth_config_id)
        .outerjoin(Credential, Credential.account_id == Account.id)
        .where(Account.id.in_(found[:limit]))
        .order_by(*order)
    )
    listed = [Listed(*row) for row in rows]
    more = len(found) > limit and listed
    return listed, (listed[-1].account.created_at, listed[-1].account.id) if more else None


def _narrowed(query: Select[*tuple[Any, ...]], wanted: Wanted) -> Select[*tuple[Any, ...]]:
    if wanted.status == "inactive":
        query = query.where(Account.status.in_(("active", "error", "expired")))
    elif wanted.status:
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
    """Whether an account has this id, or one of its names holds the text."""
    return or_(Account.id == text, Account.search_text.contains(text.casefold(), autoescape=True))


async def count_by_config(tx: AsyncSession, project: ProjectId) -> dict[str, int]:
    """Auth config → number of its accounts."""
    out: dict[str, int] = {}
    for _, config_id, number in await _counts(tx, project):
        if config_id is not None:
            out[config_id] = out.get(config_id, 0) + number
    return out


async def count_by_status(tx: AsyncSession, project: ProjectId) -> dict[str, int]:
    """Status as callers see it → number of accounts."""
    off = set(
        await tx.scalars(select(AuthConfig.id).where(AuthConfig.project_id == project, AuthConfig.active.is_(False)))
    )
    out: dict[str, int] = {}
    for status, config_id, number in await _counts(tx, project):
        shown = lifecycle.effective(status, config_active=config_id not in off)
        out[shown] = out.get(shown, 0) + number
    return out


async def _counts(tx: AsyncSession, project: ProjectId) -> Sequence[tuple[str, str | None, int]]:
    """Accounts by stored status and auth config, from the index alone."""
    counted = [*(s for s in lifecycle.STATUSES if s != "archived"), lifecycle.HANDED_OVER]
    rows = await tx.execute(
        select(Account.status, Account.auth_config_id, func.count())
        .where(Account.project_id == project, Account.status.in_(counted))
        .group_by(Account.status, Account.auth_config_id)
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def find(tx: AsyncSession, project: ProjectId, text: str, limit: int = 8) -> Sequence[Account]:
    """The newest accounts that match a text, for the search over everything."""
    rows, _ = await page(tx, project, Wanted(text=text), limit=limit)
    return [row.account for row in rows]


async def credential_of(tx: AsyncSession, account_id: str) -> Credential | None:
    """The credential's row: its times and what the last renewal said. The secret stays sealed."""
    return await tx.get(Credential, account_id)
