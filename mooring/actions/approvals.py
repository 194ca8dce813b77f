"""Calls that wait for a person: asked for by an API key, decided in the dashboard, made once.

A caller repeats its call: the first time it is written down, and refused until somebody decided. An approval is good for
these arguments, this account and this key, for one attempt, within an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Literal

import orjson
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.actions import listing
from mooring.actions.inputs import Arguments
from mooring.actions.models import Approval
from mooring.connectors.actions import Action
from mooring.identity import audit, sealing
from mooring.identity.models import ApiKey
from mooring.identity.service import Caller, ProjectId, lock_project
from mooring.kit import clock, ids
from mooring.kit.vault import Owner, Vault, VaultError
from mooring.protocol.redact import redact_json
from mooring.webhooks import service as webhooks

State = Literal["pending", "approved", "rejected", "used", "expired"]

WAIT: Final = timedelta(hours=24)  # for a decision
USE: Final = timedelta(hours=1)  # of an approval, and how long a refusal is remembered
KEEP: Final = timedelta(days=90)
LARGEST: Final = 1 << 20  # bytes of arguments
MOST: Final = 100  # calls of one key that wait at a time
_FIELD: Final = "approval"  # the vault's field name


def is_needed(caller: Caller, action: Action) -> bool:
    """Whether a person has to approve this action before this caller may run it."""
    if caller.approval is None:
        return False
    return "delete" in action.effects or (caller.approval == "write" and not action.reads)


async def require(context: Context, caller: Caller, serving: Serving, action: Action, arguments: Arguments) -> None:
    """Spend the approval of this very call. Raises ApprovalRequired while there is none, Forbidden after a refusal.

    Looks at no credential. A call that nobody decided about yet is written down once, however often it is repeated.
    """
    name = listing.name_of(serving.connector, action)
    wanted = _packed(arguments)
    if len(wanted) > LARGEST:
        raise errors.PayloadTooLarge(f"the arguments have {len(wanted)} bytes; a person approves {LARGEST} at most")
    async with context.db.begin() as tx:
        await lock_project(tx, caller.project_id)  # two equal calls at once ask once
        owner = Owner(caller.project_id, "account", serving.id)
        key = await sealing.ensure_key(tx, context.vault, owner)
        found: Approval | None = None
        for row in await _open(tx, caller, serving.id, name):
            try:
                if key.open(row.sealed, name=f"{_FIELD}:{row.id}") == wanted:
                    found = row
                    break
            except VaultError:
                continue  # the account was linked anew: what an older key sealed is no longer asked for
        if found is not None and found.status == "approved":
            found.status, found.used_at = "used", clock.now()
            return
        if found is None:
            if await _waiting(tx, caller) >= MOST:
                raise errors.RateLimited(
                    f"{MOST} calls of this API key wait for approval already",
                    code="TooManyApprovalsError",
                    hint="Let somebody decide about them in the dashboard, under Approvals.",
                    headers={"retry-after": "60"},
                )
            id = ids.nanoid()
            found = Approval(
                id=id,
                project_id=caller.project_id,
                account_id=serving.id,
                provider=serving.connector.key,
                action=name,
                key_id=caller.key_id,
                key_label=await tx.scalar(select(ApiKey.label).where(ApiKey.id == caller.key_id)) or caller.key_id,
                sealed=key.seal(wanted, name=f"{_FIELD}:{id}"),
                status="pending",
                created_at=clock.now(),
                expires_at=clock.now() + WAIT,
            )
            tx.add(found)
            await _tell(tx, context, found, "requested")
        shown = told(context, found)
    if found.status == "rejected":
        raise errors.Forbidden(
            f"a person refused this call{f': {found.reason}' if found.reason else ''}",
            code="ApprovalRejectedError",
            hint="The same call can be asked for again after an hour.",
            extra={"approval": shown},
        )
    raise errors.ApprovalRequired(f"{name} waits for the approval of a person", extra={"approval": shown})


def _packed(arguments: Arguments) -> bytes:
    return orjson.dumps(dict(arguments.values), option=orjson.OPT_SORT_KEYS)


async def _open(tx: AsyncSession, caller: Caller, account_id: str, action: str) -> Sequence[Approval]:
    """What was asked for and is neither over nor spent, the newest first."""
    query = (
        select(Approval)
        .where(
            Approval.key_id == caller.key_id,
            Approval.account_id == account_id,
            Approval.action == action,
            Approval.status != "used",
            Approval.expires_at > clock.now(),
        )
        .order_by(Approval.created_at.desc())
        .with_for_update()
    )
    return (await tx.scalars(query)).all()


async def _waiting(tx: AsyncSession, caller: Caller) -> int:
    mine = (Approval.key_id == caller.key_id, Approval.status == "pending", Approval.expires_at > clock.now())
    return await tx.scalar(select(func.count()).select_from(Approval).where(*mine)) or 0


async def _tell(tx: AsyncSession, context: Context, row: Approval, what: str) -> None:
    await webhooks.emit(
        tx,
        project_id=row.project_id,
        event=f"approval.{what}",
        record_id=row.id,
        account_id=row.account_id,
        payload={"provider": row.provider, "action": row.action, "url": url(context, row), "key": row.key_label},
    )


def url(context: Context, row: Approval) -> str:
    """The dashboard's page on which somebody decides."""
    return f"{context.public_url}/dashboard/p/{row.project_id}/approvals/{row.id}"


def state(row: Approval) -> State:
    """Where it stands now."""
    if row.status in {"pending", "approved"} and row.expires_at <= clock.now():
        return "expired"
    return row.status  # type: ignore[return-value]


def told(context: Context, row: Approval) -> dict[str, Any]:
    """What a caller learns of it: not the arguments, which it knows."""
    return {
        "id": row.id,
        "status": state(row),
        "action": row.action,
        "account_id": row.account_id,
        "url": url(context, row),
        "created_at": clock.iso(row.created_at),
        "expires_at": clock.iso(row.expires_at),
        "decided_at": clock.iso(row.decided_at) if row.decided_at else None,
        "reason": row.reason,
    }


async def search(
    tx: AsyncSession, project: ProjectId, *, key_id: str | None = None, waiting: bool = False, limit: int = 100
) -> Sequence[Approval]:
    """The project's calls that waited or wait, newest first; of one key, or those alone that wait."""
    query = select(Approval).where(Approval.project_id == project)
    if key_id is not None:
        query = query.where(Approval.key_id == key_id)
    if waiting:
        query = query.where(Approval.status == "pending", Approval.expires_at > clock.now())
    return (await tx.scalars(query.order_by(Approval.created_at.desc(), Approval.id).limit(limit))).all()


async def get(tx: AsyncSession, project: ProjectId, id: str, *, key_id: str | None = None) -> Approval:
    """One of them. Raises NotFound, for a foreign one too."""
    row = await tx.get(Approval, id)
    if row is None or row.project_id != project or key_id not in {None, row.key_id}:
        raise errors.NotFound("no such approval")
    return row


async def arguments_of(tx: AsyncSession, vault: Vault, row: Approval) -> Any | None:
    """The arguments for whoever decides, secrets masked by name; None when the account was deleted or linked anew."""
    try:
        key = await sealing.open_key(tx, vault, Owner(row.project_id, "account", row.account_id))
        return redact_json(orjson.loads(key.open(row.sealed, name=f"{_FIELD}:{row.id}")))
    except VaultError:
        return None


async def decide(
    tx: AsyncSession,
    context: Context,
    project: ProjectId,
    id: str,
    *,
    approve: bool,
    by: str,
    reason: str | None = None,
) -> Approval:
    """Approve or refuse a call that waits. Raises NotFound, and Conflict for one that was decided about or is over."""
    now = clock.now()
    row = await get(tx, project, id)
    values = {
        "status": "approved" if approve else "rejected",
        "decided_at": now,
        "decided_by": by[:254],
        "reason": reason,
        "expires_at": now + USE,
    }
    mine = (Approval.id == row.id, Approval.status == "pending", Approval.expires_at > now)
    changed: Any = await tx.execute(update(Approval).where(*mine).values(**values))
    if changed.rowcount != 1:
        raise errors.Conflict(
            "this call does not wait any more", hint="Somebody decided about it, or its time is over."
        )
    await tx.refresh(row)
    what = "approved" if approve else "rejected"
    audit.note(tx, f"approval.{what}", project_id=project, target=("approval", row.id), label=row.action)
    await _tell(tx, context, row, what)
    return row


async def purge(tx: AsyncSession) -> None:
    """Drop those that were over long ago."""
    await tx.execute(delete(Approval).where(Approval.expires_at < clock.now() - KEEP))
