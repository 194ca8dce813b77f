"""Tokens of a grant: a code for the first pair, a refresh token for the next one (OAuth 2.1 §4.1.3, §4.3).

A refresh token works once. Its successors are made of itself and of a salt that only the database knows, so that the same
request is answered the same once more while nobody has used the successor: an answer that was lost, or a program that asked
twice at once, costs nobody their grant. Whoever shows a spent one later has stolen it, or was stolen from: the grant ends.
"""

from __future__ import annotations

import base64
import hmac
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.grants import clients, rules, service
from mooring.grants.models import Grant, GrantToken
from mooring.grants.refusals import OAuthRefusal, invalid_grant
from mooring.kit import clock, ids
from mooring.kit.db import Database

ACCESS: Final = timedelta(minutes=15)
REFRESH: Final = timedelta(days=30)  # without use
GRACE: Final = timedelta(seconds=30)  # for a lost answer
REMEMBERED: Final = timedelta(days=7)  # for which a spent refresh token is known as one
ACCESS_PREFIX: Final = "mcp_at_"
REFRESH_PREFIX: Final = "mcp_rt_"


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer of the token endpoint."""

    access: str
    refresh: str
    seconds: int
    writes: bool

    def __repr__(self) -> str:
        return "<Pair>"


async def redeem(
    db: Database, *, code: str, client_id: str, redirect_uri: str, verifier: str, resource: str | None
) -> Pair:
    """Exchange a code, once. A second time ends what came of the first (OAuth 2.1 §4.1.3). Raises OAuthRefusal."""
    async with db.begin() as tx:
        outcome = await _redeem(tx, code, client_id, redirect_uri, verifier, resource)
    if isinstance(outcome, OAuthRefusal):  # raised out here: what was found out is to stay
        raise outcome
    return outcome


async def _redeem(
    tx: AsyncSession, code: str, client_id: str, redirect_uri: str, verifier: str, resource: str | None
) -> Pair | OAuthRefusal:
    if not await clients.is_known(tx, client_id):
        return _unknown_client()
    grant = await tx.scalar(select(Grant).where(Grant.code_hash == ids.digest(code[:200])).with_for_update())
    if grant is None or grant.client_id != client_id:
        return invalid_grant("the code is unknown")
    if grant.code_used_at is not None:
        await service.end(tx, grant, "reuse")
        return invalid_grant("the code was used already; what came of it is revoked")
    if grant.code_expires_at <= clock.now() or not await service.is_alive(tx, grant):
        return invalid_grant("the code is over")
    if grant.redirect_uri != redirect_uri:
        return invalid_grant("redirect_uri is not the one of the authorization request")
    if not rules.verifies(verifier, grant.code_challenge):
        return invalid_grant("code_verifier does not fit the code_challenge")
    if resource is not None and resource != grant.resource:
        return OAuthRefusal("invalid_target", "resource is not the one of the authorization request")
    grant.code_used_at = clock.now()
    await service.replace_older(tx, grant)
    access, refresh = ACCESS_PREFIX + ids.secret_token(), REFRESH_PREFIX + ids.secret_token()
    return await _store(tx, grant, access, refresh, None)


async def renew(db: Database, *, token: str, client_id: str, resource: str | None, scope: str | None) -> Pair:
    """Exchange a refresh token for the next pair. Raises OAuthRefusal."""
    async with db.begin() as tx:
        outcome = await _renew(tx, token, client_id, resource, scope)
    if isinstance(outcome, OAuthRefusal):
        raise outcome
    return outcome


async def _renew(
    tx: AsyncSession, token: str, client_id: str, resource: str | None, scope: str | None
) -> Pair | OAuthRefusal:
    if not await clients.is_known(tx, client_id):
        return _unknown_client()
    hashed = ids.digest(token[:200])
    mine = (GrantToken.hash == hashed, GrantToken.kind == "refresh")
    grant_id = await tx.scalar(select(GrantToken.grant_id).where(*mine))
    if grant_id is None:
        return invalid_grant()
    # The grant first, as whoever ends it does: nobody waits in a circle.
    grant = await tx.get(Grant, grant_id, with_for_update=True)
    spent = await tx.scalar(select(GrantToken).where(*mine).with_for_update())
    if grant is None or spent is None:
        return invalid_grant()
    now = clock.now()
    if grant.client_id != client_id or spent.expires_at <= now or not await service.is_alive(tx, grant):
        return invalid_grant()
    if resource is not None and resource != grant.resource:
        return OAuthRefusal("invalid_target", "resource is not the one of the grant")
    if scope and not set(scope.split()) <= {*rules.scope_of(writes=grant.writes).split(), "offline_access"}:
        return OAuthRefusal("invalid_scope", "scope is more than was granted")
    if spent.used_at is None:
        spent.used_at, spent.salt, spent.expires_at = now, os.urandom(32), now + REMEMBERED
        # Whoever has this one has the answer that made it.
        await tx.execute(update(GrantToken).where(GrantToken.hash == spent.parent).values(salt=None))
        return await _store(tx, grant, *_successors(token, spent.salt), spent.hash)
    if spent.salt is not None and now - spent.used_at <= GRACE:
        access, refresh = _successors(token, spent.salt)
        return Pair(access, refresh, _seconds(spent.used_at + ACCESS - now), grant.writes)
    await service.end(tx, grant, "reuse")
    return invalid_grant("the refresh token was used already; the grant is revoked")


def _unknown_client() -> OAuthRefusal:
    # The published clients forget what they know of themselves when they read this, and register again.
    return OAuthRefusal("invalid_client", "this client is not known here, or not any more", status=401)


def _successors(token: str, salt: bytes) -> tuple[str, str]:
    def made(prefix: str) -> str:
        value = hmac.digest(token.encode(), prefix.encode() + salt, "sha256")
        return prefix + base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    return made(ACCESS_PREFIX), made(REFRESH_PREFIX)


async def _store(tx: AsyncSession, grant: Grant, access: str, refresh: str, parent: bytes | None) -> Pair:
    now = clock.now()
    for kind, token, until in (("access", access, now + ACCESS), ("refresh", refresh, now + REFRESH)):
        tx.add(GrantToken(hash=ids.digest(token), grant_id=grant.id, kind=kind, parent=parent, expires_at=until))
    grant.last_used_at, grant.expires_at = now, now + REFRESH
    await clients.keep(tx, grant.client_id)
    await tx.flush()
    return Pair(access, refresh, _seconds(ACCESS), grant.writes)


def _seconds(time: timedelta) -> int:
    return max(1, int(time.total_seconds()))


async def revoke(db: Database, *, token: str, client_id: str) -> None:
    """End the grant of a token of this client (RFC 7009). An unknown token is revoked enough."""
    async with db.begin() as tx:
        row = await tx.get(GrantToken, ids.digest(token[:200]))
        if row is None:
            return
        grant = await tx.get_one(Grant, row.grant_id, with_for_update=True)
        if grant.client_id != client_id:
            raise OAuthRefusal("invalid_client", "the token belongs to another client", status=401)
        await service.end(tx, grant, "client")
