"""Authorization requests: begun by a program, brought to their end user's browser, and decided there."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import service as accounts
from mooring.accounts.models import Account
from mooring.actions import listing
from mooring.connectors.definition import Connector
from mooring.connectors.registry import Registry
from mooring.grants import clients
from mooring.grants.models import Grant, GrantAccount, GrantClient, GrantLink, GrantRequest
from mooring.identity import audit
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids
from mooring.kit.db import Database

LIFE: Final = timedelta(minutes=15)  # from the program's request to the person's decision
CODE: Final = timedelta(seconds=60)
LINK: Final = timedelta(minutes=30)  # for which a link is good, and again once it was opened
MOST_LINK: Final = timedelta(days=1)
MOST_ACCOUNTS: Final = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """An end user as the operator's product knows it: whose linked accounts these are (decision 15)."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What a program asks for, checked."""

    project: ProjectId
    client: GrantClient
    redirect_uri: str
    state: str | None
    challenge: str
    resource: str
    writes: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """An account that the end user may choose."""

    account: Account
    connector: Connector


async def make_link(
    tx: AsyncSession, project: ProjectId, owner: Owner, life: timedelta = LINK
) -> tuple[GrantLink, str]:
    """A link for the end user's browser, and its token, which is not kept."""
    token, now = ids.secret_token(), clock.now()
    row = GrantLink(
        token_hash=ids.digest(token),
        project_id=project,
        owner_id=owner.id,
        owner_name=owner.name,
        created_at=now,
        expires_at=now + life,
    )
    tx.add(row)
    audit.note(tx, "assistant_link.created", project_id=project, target=("owner", owner.id), label=owner.name)
    await tx.flush()
    return row, token


async def link_of_token(tx: AsyncSession, token: str) -> GrantLink:
    """A link that can still be opened. Raises SessionExpired."""
    row = await tx.get(GrantLink, ids.digest(token)) if 0 < len(token) <= 200 else None
    if row is None or row.expires_at <= clock.now():
        raise errors.SessionExpired("this link is unknown or over", hint="Ask for a new one where you got it.")
    if row.browser_hash is not None:
        raise _elsewhere()
    return row


async def open_link(tx: AsyncSession, token: str) -> tuple[GrantLink, str]:
    """Give the link to this browser: returns it with the browser's new key. Raises SessionExpired."""
    row = await link_of_token(tx, token)
    browser, until = ids.secret_token(), clock.now() + LINK
    mine = (GrantLink.token_hash == row.token_hash, GrantLink.browser_hash.is_(None))
    bound = await tx.execute(update(GrantLink).where(*mine).values(browser_hash=ids.digest(browser), expires_at=until))
    if bound.rowcount != 1:  # type: ignore[attr-defined]
        raise _elsewhere()
    return row, browser


def _elsewhere() -> errors.SessionExpired:
    return errors.SessionExpired(
        "this was begun or opened in another browser",
        code="LinkInUseError",
        hint="Go on in the browser where you began, or begin again.",
    )


async def link_of_browser(tx: AsyncSession, browser: str | None) -> GrantLink | None:
    """The newest link that this browser has opened, while it is good."""
    if not browser or len(browser) > 200:
        return None
    mine = (GrantLink.browser_hash == ids.digest(browser), GrantLink.expires_at > clock.now())
    return await tx.scalar(select(GrantLink).where(*mine).order_by(GrantLink.created_at.desc()).limit(1))


async def begin(tx: AsyncSession, ask: Ask, browser: str, owner: Owner | None) -> tuple[GrantRequest, str]:
    """Keep a request for this browser; returns it with what the operator's product gets, if it is to say who this is."""
    handle = ids.secret_token()
    row = GrantRequest(
        id=ids.nanoid(),
        project_id=ask.project,
        browser_hash=ids.digest(browser),
        handle_hash=None if owner else ids.digest(handle),
        client_id=ask.client.id,
        client_name=ask.client.name,
        redirect_uri=ask.redirect_uri,
        state=ask.state,
        challenge=ask.challenge,
        resource=ask.resource,
        writes=ask.writes,
        owner_id=owner.id if owner else None,
        owner_name=owner.name if owner else None,
        confirmed=owner is not None,
        expires_at=clock.now() + LIFE,
    )
    tx.add(row)
    await tx.flush()
    return row, handle


async def identify(tx: AsyncSession, project: ProjectId, handle: str, owner: Owner) -> tuple[GrantRequest, str]:
    """Say whose request it is, once; returns it with the code of the URL by which the browser goes on. Raises NotFound."""
    code = ids.secret_token()
    mine = (
        GrantRequest.handle_hash == ids.digest(handle[:200]),
        GrantRequest.project_id == project,
        GrantRequest.expires_at > clock.now(),
    )
    row = await tx.scalar(select(GrantRequest).where(*mine))
    values = {
        "handle_hash": None,
        "continue_hash": ids.digest(code),
        "owner_id": owner.id,
        "owner_name": owner.name,
    }
    changed = await tx.execute(update(GrantRequest).where(*mine).values(**values))
    if row is None or changed.rowcount != 1:  # type: ignore[attr-defined]
        raise errors.NotFound("no such request, or it is over", hint="Each works once, for a few minutes.")
    await tx.refresh(row)
    return row, code


async def enter(db: Database, code: str, browser: str | None) -> GrantRequest:
    """Take the browser in that comes back from the operator's product. Raises SessionExpired.

    In any other browser than the one that began, the request is over: somebody got somebody else to answer it.
    """
    async with db.begin() as tx:
        row = await tx.scalar(
            select(GrantRequest)
            .where(GrantRequest.continue_hash == ids.digest(code[:200]), GrantRequest.expires_at > clock.now())
            .with_for_update()
        )
        mine = row is not None and _is_of(row, browser)
        if row is not None and mine:
            row.continue_hash, row.confirmed = None, True
        elif row is not None:
            await tx.delete(row)
    if row is None:
        raise _over()
    if not mine:
        raise _elsewhere()
    return row


def _is_of(row: GrantRequest, browser: str | None) -> bool:
    return bool(browser) and hmac.compare_digest(ids.digest((browser or "")[:200]), row.browser_hash)


def _over() -> errors.SessionExpired:
    return errors.SessionExpired(
        "this request was answered already, or took too long", hint="Begin again in your assistant."
    )


async def look(tx: AsyncSession, id: str, browser: str | None) -> tuple[GrantRequest, Owner]:
    """A request that waits for the decision of the person at this browser. Raises SessionExpired."""
    row = await tx.get(GrantRequest, id[:40])
    if row is None or row.expires_at <= clock.now():
        raise _over()
    if not _is_of(row, browser):
        raise _elsewhere()
    if not row.confirmed or row.owner_id is None or row.owner_name is None:
        raise _over()
    return row, Owner(row.owner_id, row.owner_name)


async def choices(tx: AsyncSession, registry: Registry, project: ProjectId, owner: Owner) -> Sequence[Choice]:
    """The accounts of this very owner that an assistant can do something with."""
    rows = await accounts.search(tx, project, owner_ids=[owner.id], limit=MOST_ACCOUNTS)
    out = []
    for account, config in rows:
        connector = registry.of(config) if config is not None else None
        if (
            connector is None
            or account.origin_owner_name != owner.name
            or next(listing.runnable(connector), None) is None
        ):
            continue
        out.append(Choice(account, connector))
    return out


async def decide(
    tx: AsyncSession, registry: Registry, row: GrantRequest, owner: Owner, chosen: Sequence[str], *, writes: bool
) -> str:
    """Grant what the end user allows, once; returns the authorization code. Raises SessionExpired, ValidationFailed."""
    await spend(tx, row)
    project = ProjectId(row.project_id)
    possible = {choice.account.id for choice in await choices(tx, registry, project, owner)}
    if not chosen or not set(chosen) <= possible:
        raise errors.ValidationFailed("Validation failed", errors=["account: choose at least one of your accounts"])
    code, now = ids.secret_token(), clock.now()
    grant = Grant(
        id=ids.nanoid(),
        project_id=project,
        client_id=row.client_id,
        client_name=row.client_name,
        redirect_uri=row.redirect_uri,
        resource=row.resource,
        owner_id=owner.id,
        owner_name=owner.name,
        writes=writes and row.writes,
        code_hash=ids.digest(code),
        code_challenge=row.challenge,
        code_expires_at=now + CODE,
        created_at=now,
        expires_at=now + CODE,
    )
    tx.add(grant)
    await tx.flush()
    tx.add_all(GrantAccount(grant_id=grant.id, account_id=id) for id in dict.fromkeys(chosen))
    await clients.keep(tx, row.client_id)
    audit.note(
        tx,
        "grant.created",
        project_id=project,
        target=("grant", grant.id),
        label=owner.name,  # alone, so that an erasure finds it
        detail={
            "client": grant.client_name,
            "accounts": sorted(set(chosen)),
            "writes": grant.writes,
            "redirect_uri": grant.redirect_uri,
        },
    )
    await tx.flush()
    return code


async def spend(tx: AsyncSession, row: GrantRequest) -> None:
    """End a request. Raises SessionExpired when somebody else just did."""
    ended = await tx.execute(delete(GrantRequest).where(GrantRequest.id == row.id))
    if ended.rowcount != 1:  # type: ignore[attr-defined]
        raise _over()
