"""Projects as people handle them: rename, delete with days of grace, restore, and what is set per project."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import addresses, audit, users
from mooring.identity.models import Organization, Project
from mooring.identity.roles import Need, Rights
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock
from mooring.kit.db import record_change

GRACE: Final = timedelta(days=7)  # contract §3.6 C15
LOG_DAYS: Final = (1, 730)


async def visible(tx: AsyncSession, rights: Rights) -> Sequence[tuple[Project, Organization]]:
    """The projects that a person may look at, deleted ones in their days of grace too, by name."""
    owned = [id for id, role in rights.organizations.items() if role == "admin"]
    rows = await tx.execute(
        select(Project, Organization)
        .join(Organization, Organization.id == Project.organization_id)
        .where(or_(Project.organization_id.in_(owned), Project.id.in_(list(rights.projects))))
        .order_by(Organization.name, Project.name, Project.id)
    )
    return [(row[0], row[1]) for row in rows]


def admit(
    known: Sequence[tuple[Project, Organization]], rights: Rights, need: Need, id: str, *, deleted: bool = False
) -> tuple[Project, Organization]:
    """The project of a page or a call, for a person who may what it needs. `known` are those that they may look at.

    Raises NotFound for any other and for a deleted one, unless `deleted` takes those too; Forbidden for a role that is
    too small.
    """
    found = next(((p, o) for p, o in known if p.id == id), None)
    if found is None:
        raise errors.NotFound("no such project")
    rights.require(need, id, found[0].organization_id)
    if found[0].deleted_at is not None and not deleted:
        raise errors.NotFound(
            "this project was deleted",
            hint="An admin can restore it on the page Projects while its days of grace last.",
        )
    return found


async def get(tx: AsyncSession, id: str) -> Project:
    """One project, also a deleted one in its days of grace. Raises NotFound."""
    row = await tx.get(Project, id)
    if row is None:
        raise errors.NotFound("no such project")
    return row


def gone_at(project: Project) -> datetime | None:
    """When a deleted project is destroyed."""
    return project.deleted_at + GRACE if project.deleted_at else None


async def rename(tx: AsyncSession, id: str, name: str) -> Project:
    """Give a project another name; its id stays."""
    row = await _locked(tx, id)
    old, row.name = row.name, users.clean_name(name)
    _note(tx, row, "project.renamed", {"from": old, "to": row.name})
    await tx.flush()
    return row


async def delete(tx: AsyncSession, id: str, *, now: bool = False) -> Project:
    """Stop a project: its API keys refuse at once, and after the days of grace it is destroyed; with `now`, very soon."""
    row = await _locked(tx, id)
    if row.deleted_at is None or now:
        row.deleted_at = clock.now() - (GRACE if now else timedelta(0))
        _note(tx, row, "project.deleted", {"now": now})
        record_change(tx, "project", id)
        await tx.flush()
    return row


async def restore(tx: AsyncSession, id: str) -> Project:
    """Take a deletion back. Raises Conflict when its time is over."""
    row = await _locked(tx, id)
    end = gone_at(row)
    if end is not None:
        if end <= clock.now():
            raise errors.Conflict("the days of grace are over; the project is being destroyed")
        row.deleted_at = None
        _note(tx, row, "project.restored", {})
        record_change(tx, "project", id)
        await tx.flush()
    return row


async def set_ip_allowlist(tx: AsyncSession, id: str, entries: Sequence[str]) -> Project:
    """Say from where API keys may call. Every worker notices within a second. Raises ValidationFailed."""
    row = await _locked(tx, id)
    row.ip_allowlist = addresses.clean(entries)
    _note(tx, row, "project.ip_allowlist_changed", {"entries": row.ip_allowlist})
    record_change(tx, "project", id)
    await tx.flush()
    return row


async def set_log_days(tx: AsyncSession, id: str, days: int) -> Project:
    """Say how long request logs are kept. Raises ValidationFailed."""
    low, high = LOG_DAYS
    if not low <= days <= high:
        raise errors.ValidationFailed("the retention is not valid", errors=[f"log_days: must be from {low} to {high}"])
    row = await _locked(tx, id)
    old, row.log_days = row.log_days, days
    _note(tx, row, "project.log_days_changed", {"from": old, "to": days})
    await tx.flush()
    return row


async def _locked(tx: AsyncSession, id: str) -> Project:
    await lock_project(tx, ProjectId(id))
    return await get(tx, id)


def _note(tx: AsyncSession, row: Project, action: str, detail: dict[str, object]) -> None:
    audit.note(
        tx,
        action,
        project_id=row.id,
        organization_id=row.organization_id,
        target=("project", row.id),
        label=row.name,
        detail=detail,
    )
