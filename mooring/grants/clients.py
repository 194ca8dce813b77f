"""Clients: programs that registered themselves (RFC 7591), or whose id is the URL of a document about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts.context import Context
from mooring.grants import rules
from mooring.grants.models import GrantClient
from mooring.grants.refusals import OAuthRefusal
from mooring.kit import clock, ids
from mooring.kit.body import is_storable
from mooring.kit.db import Database
from mooring.kit.http import HttpFailure, OutboundRequest
from mooring.protocol.redact import clean_line

UNUSED: Final = timedelta(days=1)  # after which a client that nobody gave a grant is forgotten
IDLE: Final = timedelta(days=90)  # the same after its last token
DOCUMENT: Final = timedelta(hours=1)  # for which a document is not fetched again
MOST: Final = 20_000  # clients that are kept at a time
MOST_URIS: Final = 10
DOCUMENT_BYTES: Final = 10_000
DOCUMENT_SECONDS: Final = 5.0


def is_document(client_id: str) -> bool:
    """Whether a client's id is the URL of its metadata."""
    return client_id.startswith("https://")


def read_metadata(data: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Name and redirect URIs of a client that can work with us. Raises OAuthRefusal (RFC 7591 §3.2.2)."""
    uris = data.get("redirect_uris")
    if not isinstance(uris, list) or not 1 <= len(uris) <= MOST_URIS or not all(isinstance(u, str) for u in uris):
        raise OAuthRefusal("invalid_redirect_uri", f"redirect_uris: must be a list of 1 to {MOST_URIS} URIs")
    for uri in uris:
        try:
            rules.check_redirect_uri(uri)
        except ValueError as e:
            raise OAuthRefusal("invalid_redirect_uri", f"redirect_uris: {e}") from None
    for member, needed in (("grant_types", "authorization_code"), ("response_types", "code")):
        given = data.get(member)
        if given is not None and (not isinstance(given, list) or needed not in given):
            raise OAuthRefusal("invalid_client_metadata", f"{member}: must contain {needed}")
    name = data.get("client_name")
    if not (name is None or isinstance(name, str)) or not is_storable(dict(data)):
        raise OAuthRefusal("invalid_client_metadata", "client_name: must be a text")
    return clean_line(name or "", 80) or rules.destination(uris[0])[:80], list(dict.fromkeys(uris))


async def register(db: Database, data: Mapping[str, Any]) -> GrantClient:
    """Register a public client. Raises OAuthRefusal."""
    name, uris = read_metadata(data)
    now = clock.now()
    async with db.begin() as tx:
        if (await tx.scalar(select(func.count()).select_from(GrantClient)) or 0) >= MOST:
            raise OAuthRefusal(
                "temporarily_unavailable",
                "too many programs have registered lately",
                status=429,
                headers={"retry-after": "3600"},
            )
        row = GrantClient(id=ids.nanoid(), name=name, redirect_uris=uris, created_at=now, expires_at=now + UNUSED)
        tx.add(row)
    return row


async def find(context: Context, client_id: str) -> GrantClient:
    """A client by its id, its document fetched where that is needed. Raises BadRequest for one that can't be had."""
    if 0 < len(client_id) <= 500:
        async with context.db.read() as tx:
            row = await tx.get(GrantClient, client_id)
        if row is not None and row.expires_at > clock.now():
            return row
        if is_document(client_id):
            return await _fetch(context, client_id)
    raise _unknown("this program is not known here, or not any more")


async def is_known(tx: AsyncSession, client_id: str) -> bool:
    """Whether a program may still ask for tokens under this id."""
    if is_document(client_id):
        return True
    return await tx.scalar(select(GrantClient.id).where(GrantClient.id == client_id)) is not None


async def keep(tx: AsyncSession, client_id: str) -> None:
    """Keep a client that is used."""
    now = clock.now()
    late = GrantClient.expires_at < now + IDLE - timedelta(days=1)
    if not is_document(client_id):
        await tx.execute(update(GrantClient).where(GrantClient.id == client_id, late).values(expires_at=now + IDLE))


def _unknown(message: str) -> errors.BadRequest:
    return errors.BadRequest(
        message,
        code="UnknownAssistantError",
        hint="Remove the connection in the assistant and add it again.",
    )


async def _fetch(context: Context, url: str) -> GrantClient:
    """Read a client's document: https, no redirects, through the egress guard, and it must name its own address."""
    parts = urlsplit(url)
    if not parts.hostname or parts.path in {"", "/"} or parts.fragment or parts.username is not None:
        raise _unknown("the program's id is no address of a document about it")
    request = OutboundRequest("GET", url, (("accept", "application/json"),))
    try:
        answer = await context.http.send(request, deadline=DOCUMENT_SECONDS, max_bytes=DOCUMENT_BYTES)
        data = orjson.loads(answer.body)
    except (HttpFailure, errors.MooringError):
        raise _unknown("the document about this program could not be read") from None
    except orjson.JSONDecodeError:
        data = None
    if answer.status != 200 or not isinstance(data, dict) or data.get("client_id") != url:
        raise _unknown("the document about this program is not what it should be")
    if data.get("token_endpoint_auth_method") not in {None, "none"}:
        raise _unknown("this program wants to authenticate in a way that is not possible here")
    try:
        name, uris = read_metadata(data)
    except OAuthRefusal as e:
        raise _unknown(f"the document about this program is faulty: {e.description}") from None
    now = clock.now()
    async with context.db.begin() as tx:
        return await tx.merge(
            GrantClient(id=url, name=name, redirect_uris=uris, created_at=now, expires_at=now + DOCUMENT)
        )
