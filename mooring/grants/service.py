"""Rules and queries for grants: which there are, which are alive, and how they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts.models import Account
from mooring.grants import clients
from mooring.grants.models import Grant, GrantAccount, GrantClient, GrantLink, GrantRequest, GrantToken
from mooring.identity import audit
from mooring.identity.models import Project, ProjectSettingsRow
from mooring.identity.service import ProjectId
from mooring.kit import clock
from mooring.kit.db import record_change

KEEP: Final = timedelta(days=30)  # for which a grant that ended is still shown


async def offering(tx: AsyncSession) -> Sequence[str]:
    """Two projects at most whose end users may use assistants: none, the only one, or too many to choose for somebody."""
    query = (
        select(Project.id)
        .join(ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id)
        .where(ProjectSettingsRow.assistants.is_(True), Project.deleted_at.is_(None))
    )
    return (await tx.scalars(query.limit(2))).all()


def of_its_owner() -> Any:
    """That an account is there, and still belongs to the owner of the grant that it was chosen for."""
    return and_(
        Account.status != "archived",
        Account.project_id == Grant.project_id,
        Account.origin_owner_id == Grant.owner_id,
        Account.origin_owner_name == Grant.owner_name,
    )


async def accounts_of(tx: AsyncSession, grant_ids: Sequence[str]) -> Mapping[str, list[str]]:
    """The accounts that grants reach now: chosen, not deleted, not given to another owner."""
    rows = await tx.execute(
        select(GrantAccount.grant_id, Account.id)
        .join(Grant, Grant.id == GrantAccount.grant_id)
        .join(Account, Account.id == GrantAccount.account_id)
        .where(GrantAccount.grant_id.in_(grant_ids), of_its_owner())
        .order_by(Account.created_at, Account.id)
    )
    out: dict[str, list[str]] = {id: [] for id in grant_ids}
    for grant_id, account_id in rows:
        out[grant_id].append(account_id)
    return out


async def is_alive(tx: AsyncSession, grant: Grant) -> bool:
    """Whether a grant may get tokens: not revoked, its project offers this, and it reaches an account."""
    if grant.revoked_at is not None:
        return False
    offered = await tx.scalar(
        select(Project.id)
        .join(ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id)
        .where(Project.id == grant.project_id, Project.deleted_at.is_(None), ProjectSettingsRow.assistants.is_(True))
    )
    return offered is not None and bool((await accounts_of(tx, [grant.id]))[grant.id])


async def search(
    tx: AsyncSession,
    project: ProjectId,
    *,
    owner_id: str | None = None,
    owner_name: str | None = None,
    ended: bool = False,
    limit: int = 100,
    offset: int = 0,
) -> Sequence[Grant]:
    """Grants of a project whose code was used, newest first; those that ended too, if asked for."""
    query = select(Grant).where(Grant.project_id == project, Grant.code_used_at.is_not(None))
    if owner_id is not None:
        query = query.where(Grant.owner_id == owner_id)
    if owner_name is not None:
        query = query.where(Grant.owner_name == owner_name)
    if not ended:
        query = query.where(Grant.revoked_at.is_(None), Grant.expires_at > clock.now())
    return (await tx.scalars(query.order_by(Grant.created_at.desc(), Grant.id).offset(offset).limit(limit))).all()


async def get(tx: AsyncSession, project: ProjectId, id: str, *, lock: bool = False) -> Grant:
    """One grant. Raises NotFound, for a foreign one too."""
    row = await tx.get(Grant, id[:40], with_for_update=lock)
    if row is None or row.project_id != project or row.code_used_at is None:
        raise errors.NotFound("no such grant")
    return row


async def end(tx: AsyncSession, grant: Grant, by: str) -> None:
    """End a grant and its tokens; every process notices within a second. Once more changes nothing."""
    if grant.revoked_at is not None:
        return
    grant.revoked_at, grant.revoked_by = clock.now(), by
    await tx.execute(delete(GrantToken).where(GrantToken.grant_id == grant.id))
    record_change(tx, "grant", grant.id)
    audit.note(
        tx,
        "grant.revoked",
        project_id=grant.project_id,
        target=("grant", grant.id),
        label=grant.owner_name,
        detail={"client": grant.client_name, "by": by},
    )
    await tx.flush()


async def replace_older(tx: AsyncSession, grant: Grant) -> None:
    """End what the same installation of a program had before. A program known by its document has many installations."""
    if clients.is_document(grant.client_id):
        return
    older = await tx.scalars(
        select(Grant).where(
            Grant.project_id == grant.project_id,
            Grant.owner_id == grant.owner_id,
            Grant.owner_name == grant.owner_name,
            Grant.client_id == grant.client_id,
            Grant.resource == grant.resource,
            Grant.id != grant.id,
            Grant.revoked_at.is_(None),
        )
    )
    for row in older.all():
        await end(tx, row, "replaced")


async def purge(tx: AsyncSession) -> None:
    """Drop what is over: requests, links, clients, tokens, and grants that ended or whose accounts are all gone."""
    now = clock.now()
    for model in (GrantRequest, GrantLink, GrantClient, GrantToken):
        await tx.execute(delete(model).where(model.expires_at < now))
    reaches = (
        select(GrantAccount.grant_id)
        .join(Account, Account.id == GrantAccount.account_id)
        .where(GrantAccount.grant_id == Grant.id, of_its_owner())
        .correlate(Grant)
    )
    over = or_(
        Grant.expires_at < now - KEEP,
        Grant.revoked_at < now - KEEP,
        and_(Grant.code_used_at.is_(None), Grant.code_expires_at < now),
        ~exists(reaches),
    )
    await tx.execute(delete(Grant).where(over).execution_options(synchronize_session=False))
