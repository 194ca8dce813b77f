"""Rules and queries for linked accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import credentials, lifecycle
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.forecast import Forecast, expected_failure
from mooring.accounts.identity_change import IDENTITY_CHANGED, LinkWarning, identity_warning
from mooring.accounts.models import Account, Credential
from mooring.accounts.serving import NOT_FOUND
from mooring.accounts.testing import Identity
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod
from mooring.identity import audit, sealing
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock, ids
from mooring.kit.db import record_change
from mooring.kit.vault import Owner, Vault
from mooring.webhooks import service as webhooks
from mooring.webhooks.events import account_payload

REASONS_KEPT = 20
EVIDENCE_KEPT = 3  # reasons, the newest, that keep the exchange beside them


@dataclass(frozen=True, slots=True)
class OwnerInfo:
    """Whose account it is in the caller's system, and how it is to be labelled."""

    id: str
    name: str
    username: str | None = None
    label: str | None = None
    metadata: Mapping[str, Any] | None = None
    type: str = "production"


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A tested credential, ready to be saved."""

    config: AuthConfig
    method: AuthMethod
    probe_at: datetime | None
    setup: Mapping[str, str]  # fields that are no secrets
    secrets: Secrets = field(repr=False)
    times: Times
    refreshable: bool
    granted_scopes: Sequence[str] | None
    missing_scopes: Sequence[str]
    identity: Identity


@dataclass(frozen=True, slots=True)
class Linked:
    """An account whose credential was just saved, and what its owner should look at."""

    account: Account
    warning: LinkWarning | None = None


def owner_of(account: Account) -> Owner:
    """The vault's name for an account."""
    return Owner(account.project_id, "account", account.id)


def slot_of(project: str, owner_id: str, owner_name: str, connector_key: str) -> str:
    """The upsert triple as a unique value (contract §2.1)."""
    parts = "\0".join((project, owner_id, owner_name, connector_key))
    return hashlib.sha256(parts.encode()).hexdigest()


async def get(tx: AsyncSession, project: ProjectId, id: str) -> tuple[Account, AuthConfig]:
    """One account and its auth config. Raises NotFound, the same for foreign, deleted and unknown ids."""
    row = (
        await tx.execute(
            select(Account, AuthConfig)
            .join(AuthConfig, AuthConfig.id == Account.auth_config_id)
            .where(Account.id == id, Account.project_id == project, Account.status != "archived")
        )
    ).first()
    if row is None:
        raise errors.NotFound(NOT_FOUND)
    return row[0], row[1]


async def lock(
    tx: AsyncSession, project: ProjectId, id: str, *, project_wide: bool = True
) -> tuple[Account, AuthConfig]:
    """`get` for a change: until this transaction ends nobody else changes, renews or deletes the account.

    The order is project, credential, account. A refresh, which concerns one account alone, leaves the project out: the
    refreshes of one project go side by side, and nobody waits in a circle.
    """
    if project_wide:
        await lock_project(tx, project)
    mine = (Account.id == id, Account.project_id == project, Account.status != "archived")
    holder = select(Credential.account_id).join(Account, Account.id == Credential.account_id)
    await tx.execute(holder.where(*mine).with_for_update(of=Credential))
    await tx.execute(
        select(Account)
        .where(*mine)
        .with_for_update(of=Account, key_share=True)
        .execution_options(populate_existing=True)
    )
    return await get(tx, project, id)


async def search(
    tx: AsyncSession,
    project: ProjectId,
    *,
    account_ids: Sequence[str] = (),
    owner_ids: Sequence[str] = (),
    providers: Sequence[str] = (),
    statuses: Sequence[str] = (),
    offset: int = 0,
    limit: int = 25,
) -> Sequence[tuple[Account, AuthConfig | None]]:
    """Accounts of the project, newest first. Deleted ones only when `statuses` asks for `archived`."""
    query = (
        select(Account, AuthConfig)
        .outerjoin(AuthConfig, AuthConfig.id == Account.auth_config_id)
        .where(Account.project_id == project)
    )
    if account_ids:
        query = query.where(Account.id.in_(account_ids))
    if owner_ids:
        query = query.where(Account.origin_owner_id.in_(owner_ids))
    if providers:
        query = query.where(Account.connector_key.in_(providers))
    if statuses:
        query = query.where(or_(*(has_status(s) for s in statuses)))
    else:
        query = query.where(Account.status != "archived")
    rows = await tx.execute(query.order_by(Account.created_at.desc(), Account.id).offset(offset).limit(limit))
    return [(row[0], row[1]) for row in rows]


def has_status(status: str) -> Any:
    """Whether an account has this status as callers see it."""
    hidden = ("active", "error", "expired")  # what a disabled auth config turns into `inactive`
    if status == "inactive":
        return and_(Account.status.in_(hidden), AuthConfig.active.is_(False))
    if status in hidden:
        return and_(Account.status == status, AuthConfig.active.is_(True))
    if status == "suspended":
        return Account.status.in_((status, lifecycle.HANDED_OVER))
    return Account.status == status


async def find_for_owner(tx: AsyncSession, project: ProjectId, owner: OwnerInfo, connector_key: str) -> Account | None:
    """The account that the upsert rule edits: the one in the triple's slot, else the oldest of the triple."""
    triple = (
        Account.project_id == project,
        Account.origin_owner_id == owner.id,
        Account.origin_owner_name == owner.name,
        Account.connector_key == connector_key,
        Account.status != "archived",
    )
    return await tx.scalar(
        select(Account).where(*triple).order_by(Account.owner_slot.is_(None), Account.created_at).limit(1)
    )


def require_here(account: Account | None) -> None:
    """Raise AccountHandedOver for an account that another hub took over: a new grant here could end the one there."""
    if account is not None and account.status == lifecycle.HANDED_OVER:
        raise errors.AccountHandedOver("the account was handed over to another hub")


async def link(
    tx: AsyncSession,
    vault: Vault,
    project: ProjectId,
    owner: OwnerInfo,
    new: NewCredential,
    *,
    account_id: str | None,
    multiple: bool,
) -> Linked:
    """Save a tested credential: on the given account, on the owner's account, or on a new one (upsert rule).

    Links of a project are saved one after the other, so that an owner's parallel links meet one account. Raises
    NotFound for an account that is gone, Conflict for one of another connector, AccountHandedOver.
    """
    await lock_project(tx, project)
    account: Account | None
    if account_id is not None:
        account, _ = await lock(tx, project, account_id)
        if account.connector_key != new.config.connector_key:
            raise errors.Conflict(
                f"the account belongs to {account.connector_key!r}, not to {new.config.connector_key!r}"
            )
    else:
        account = None if multiple else await find_for_owner(tx, project, owner, new.config.connector_key)
        if account is not None:
            await lock(tx, project, account.id)
    require_here(account)
    now = clock.now()
    created = account is None
    if account is None:
        account = Account(
            id=ids.nanoid(),
            project_id=project,
            auth_config_id=new.config.id,
            connector_key=new.config.connector_key,
            origin_owner_id=owner.id,
            origin_owner_name=owner.name,
            origin_username=owner.username,
            owner_slot=None if multiple else slot_of(project, owner.id, owner.name, new.config.connector_key),
            label=owner.label,
            meta=dict(owner.metadata) if owner.metadata is not None else None,
            type=owner.type,
            shared=False,
            status="active",
            status_reasons=[],
            setup={},
            granted_scopes=None,
            missing_scopes=[],
            identity=None,
            identity_label=None,
            created_at=now,
            updated_at=now,
        )
        tx.add(account)
    else:
        if owner.username is not None:
            account.origin_username = owner.username
        if owner.label is not None:
            account.label = owner.label
        if owner.metadata:  # `{}` is what some SDKs make of any object: no change
            account.meta = dict(owner.metadata)
        if account_id is None:
            account.type = owner.type
    before = Identity(account.identity, account.identity_label)
    warning = identity_warning(before, new.identity)
    account.auth_config_id = new.config.id
    account.setup = dict(new.setup)
    account.granted_scopes = list(new.granted_scopes) if new.granted_scopes is not None else None
    account.missing_scopes = list(new.missing_scopes)
    account.identity = new.identity.id
    account.identity_label = new.identity.label
    account.updated_at = now
    await tx.flush()
    status = lifecycle.after(account.status, "linked")
    if status == "active":  # what was the matter with the old credential says nothing of the new one
        account.status_reasons = [r for r in account.status_reasons if r["code"] == IDENTITY_CHANGED]
    account.status = status
    if warning is not None:
        _add_reason(account, warning.code, warning.description)
    if new.missing_scopes:
        _add_reason(account, "scopes_too_narrow", f"not granted: {', '.join(new.missing_scopes)}"[:500])
    await save_credential(tx, vault, account, new)
    record_change(tx, "account", account.id)
    await announce(tx, account, "account.created" if created else "account.updated")
    if warning is not None:
        shown = {"id": before.id, "label": before.label}
        await announce(tx, account, "account.identity_changed", previous_provider_account=shown)
    return Linked(account, warning)


async def save_credential(
    tx: AsyncSession,
    vault: Vault,
    account: Account,
    new: NewCredential,
    *,
    after: int = 0,
    typed_at: datetime | None = None,
) -> None:
    """Seal a credential as the account's next generation. Whoever is renewing the old one is evicted by it.

    One that comes from another hub counts on from the generation that it had there (`after`).
    """
    now, times = clock.now(), new.times
    key = await sealing.ensure_key(tx, vault, owner_of(account))
    row = await tx.get(Credential, account.id, with_for_update=True)
    if row is None:
        row = Credential(account_id=account.id, generation=0, fence=0, failures=0, refreshable=False, sealed=b"")
        tx.add(row)
    row.generation = max(row.generation, after) + 1
    row.fence += 1
    row.sealed = credentials.seal(key, new.secrets, row.generation)
    row.expires_at = times.expires_at
    row.refresh_at = times.refresh_at
    row.refresh_expires_at = times.refresh_expires_at
    row.refreshable = new.refreshable
    row.lease_until = row.pending_generation = row.pending_since = row.retry_at = None
    row.failures = 0
    row.last_outcome, row.last_error = "linked", None
    row.typed_at, row.updated_at = typed_at or now, now
    row.probe_failures, row.probe_pause, row.probe_at = 0, None, new.probe_at
    forecast = expected_failure(new.method, new.secrets, times, refreshable=new.refreshable, typed_at=row.typed_at)
    row.expected_failure_at = forecast.at if forecast else None
    row.expected_failure_reason = forecast.reason if forecast else None
    row.failure_announced_at = None
    await tx.flush()


async def forecasts(tx: AsyncSession, ids: Sequence[str]) -> Mapping[str, Forecast]:
    """When accounts will stop to work, where that is known."""
    rows = await tx.execute(
        select(Credential.account_id, Credential.expected_failure_at, Credential.expected_failure_reason).where(
            Credential.account_id.in_(ids), Credential.expected_failure_at.is_not(None)
        )
    )
    return {id: Forecast(at, reason or "") for id, at, reason in rows if at is not None}


async def open_secrets(tx: AsyncSession, vault: Vault, account: Account) -> tuple[Secrets, int]:
    """Open the credential of an account, and its generation. Raises NotFound when it was shredded."""
    row = await tx.get(Credential, account.id)
    wrapped = await sealing.find_key(tx, owner_of(account))
    if row is None or wrapped is None:  # a delete may come between any two reads
        raise errors.NotFound(NOT_FOUND)
    key = vault.unwrap(wrapped, owner_of(account))
    vault.opened += 1
    return credentials.open_(key, row.sealed, row.generation), row.generation


async def note_fact(
    tx: AsyncSession,
    account: Account,
    fact: lifecycle.Fact,
    code: str | None = None,
    description: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> bool:
    """Apply a fact to an account's status. A reason is noted whenever the status worsens. Returns whether it changed."""
    status = lifecycle.after(account.status, fact)
    if status == account.status:
        return False
    account.status = status
    if code is not None:
        _add_reason(account, code, description, evidence)
    elif status == "active":
        account.status_reasons = []
    account.updated_at = clock.now()
    record_change(tx, "account", account.id)
    await tx.flush()
    await announce(tx, account, lifecycle.event_of(status))
    return True


async def announce(tx: AsyncSession, account: Account, event: str, **more: Any) -> None:
    """Write an event about an account, in the transaction of the fact that it tells. `more` adds to its payload."""
    payload = account_payload(
        provider=account.connector_key,
        origin_owner_id=account.origin_owner_id,
        origin_owner_name=account.origin_owner_name,
        origin_username=account.origin_username,
        setup_information=account.setup,
        status=lifecycle.effective(account.status, config_active=True),
        status_reasons=[told(reason) for reason in account.status_reasons],
        provider_account={"id": account.identity, "label": account.identity_label} if account.identity else None,
    )
    await webhooks.emit(
        tx,
        project_id=account.project_id,
        event=event,
        record_id=account.id,
        account_id=account.id,
        payload=payload | more,
    )
    audit.note(
        tx,
        event,
        project_id=account.project_id,
        target=("account", account.id),
        label=account.label or account.origin_owner_name,
        detail={"connector": account.connector_key, "status": account.status},
    )


def _add_reason(
    account: Account, code: str, description: str | None, evidence: Mapping[str, Any] | None = None
) -> None:
    reason: dict[str, Any] = {"code": code, "description": description, "timestamp": clock.iso(clock.now())}
    if evidence:
        reason["evidence"] = dict(evidence)
    kept = [*account.status_reasons, reason][-REASONS_KEPT:]
    older = len(kept) - EVIDENCE_KEPT
    account.status_reasons = [told(r) if i < older else r for i, r in enumerate(kept)]


def told(reason: Mapping[str, Any]) -> dict[str, Any]:
    """A reason without its evidence, which is for operators and for a while."""
    return {name: value for name, value in reason.items() if name != "evidence"}


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What a PATCH may change. None means no change, an empty text removes an optional one."""

    origin_owner_id: str | None = None
    origin_owner_name: str | None = None
    origin_username: str | None = None
    label: str | None = None
    metadata: Mapping[str, Any] | None = None
    type: str | None = None
    shared: bool | None = None
    suspended: bool | None = None


async def change(tx: AsyncSession, project: ProjectId, id: str, new: AccountChange) -> tuple[Account, AuthConfig]:
    """Change the labels of an account. A new owner moves it to that owner's upsert slot, if it is free.

    Raises NotFound, and AccountHandedOver for one to be suspended or resumed though another hub took it over.
    """
    account, config = await lock(tx, project, id)
    if new.suspended is not None:
        require_here(account)
    old_slot = slot_of(account.project_id, account.origin_owner_id, account.origin_owner_name, account.connector_key)
    for name in ("origin_owner_id", "origin_owner_name", "origin_username", "label", "type", "shared"):
        value = getattr(new, name)
        if value is not None:
            setattr(account, name, None if value == "" else value)
    if new.metadata is not None:
        account.meta = dict(new.metadata)
    slot = slot_of(account.project_id, account.origin_owner_id, account.origin_owner_name, account.connector_key)
    if slot != old_slot:
        account.owner_slot = None  # before the search: what is searched for is written first
        taken = await tx.scalar(select(Account.id).where(Account.owner_slot == slot))
        account.owner_slot = None if taken else slot
    told = new.suspended is not None and await note_fact(tx, account, "suspended" if new.suspended else "resumed")
    account.updated_at = clock.now()
    record_change(tx, "account", account.id)
    await tx.flush()
    if not told:
        await announce(tx, account, "account.updated")
    return account, config


async def remove(tx: AsyncSession, project: ProjectId, id: str) -> tuple[Account, AuthConfig]:
    """Delete an account: shred its data key, drop the credential and what was typed, keep a tombstone without secrets."""
    account, config = await lock(tx, project, id)
    await sealing.shred_key(tx, owner_of(account))
    row = await tx.get(Credential, account.id)
    if row is not None:
        await tx.delete(row)
    await note_fact(tx, account, "deleted")
    account.auth_config_id = None
    account.owner_slot = None
    account.setup = {}
    await tx.flush()
    return account, config
