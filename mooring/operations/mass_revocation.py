"""Revoke and shred every account of one connector, after a theft at a provider or at home (rule S29)."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Select, func, select

from mooring import errors
from mooring.accounts import revocation, service
from mooring.accounts.models import Account
from mooring.connectors.registry import Registry, load_registry
from mooring.identity import audit
from mooring.identity.service import ProjectId, find_project
from mooring.kit.vault import Vault
from mooring.runtime import load_vault, prepare
from mooring.settings import Settings

BATCH = 100  # accounts per transaction


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a process the planning of revocations needs."""

    vault: Vault
    registry: Registry


def _accounts(connector: str, project_id: str | None) -> Select[str, str]:
    query = select(Account.id, Account.project_id).where(
        Account.connector_key == connector, Account.status != "archived"
    )
    return query.where(Account.project_id == project_id) if project_id else query


async def count(settings: Settings, connector: str, project: str | None) -> int:
    """How many accounts would go."""
    db = await prepare(settings)
    try:
        async with db.read() as tx:
            project_id = (await find_project(tx, project)).id if project else None
            return await tx.scalar(select(func.count()).select_from(_accounts(connector, project_id).subquery())) or 0
    finally:
        await db.close()


async def run(settings: Settings, connector: str, project: str | None, progress: Callable[[int], None]) -> list[str]:
    """Shred and plan the revocation of all of them, in transactions that an interruption can't tear; returns a summary.

    The revocations themselves are jobs: a running hub sends them, with retries.
    """
    db = await prepare(settings)
    parts = Parts(load_vault(settings, may_create=False), load_registry(settings.connectors_dir))
    done = 0
    try:
        audit.attach(db, parts.vault)
        await audit.prepare(db)
        with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
            audit.act_as(audit.Actor("command", label=getpass.getuser()))
        async with db.read() as tx:
            project_id = (await find_project(tx, project)).id if project else None
        while True:
            async with db.begin() as tx:
                rows = (await tx.execute(_accounts(connector, project_id).limit(BATCH))).all()
                for row in rows:
                    try:
                        await revocation.enqueue(tx, parts, ProjectId(row.project_id), row.id)
                        await service.remove(tx, ProjectId(row.project_id), row.id)
                    except errors.NotFound:  # deleted by somebody else meanwhile
                        continue
            if not rows:
                break
            done += len(rows)
            progress(done)
    finally:
        await db.close()
    return [
        f"{done} accounts shredded; a running hub revokes their tokens at the provider (`mooring jobs` shows how far)"
    ]
