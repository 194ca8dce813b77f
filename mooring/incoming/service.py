"""Rules for incoming endpoints: made for an account or an auth config, found by their token, and what they take in."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import orjson
from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts.context import Context
from mooring.accounts.models import Account
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import Connector, Events
from mooring.identity import audit, sealing
from mooring.identity.service import ProjectId
from mooring.incoming import verifying
from mooring.incoming.models import IncomingDelivery, IncomingEndpoint
from mooring.incoming.verifying import Received
from mooring.kit import clock, ids
from mooring.kit.vault import Owner, VaultError
from mooring.protocol.oauth2 import dig
from mooring.webhooks import service as webhooks

EVENT: Final = "provider_event.received"
MOST_ITEMS: Final = 200  # events of one delivery
REMEMBERED: Final = timedelta(days=7)
NOT_FOUND: Final = "there is no such incoming endpoint"
_USED: Final = timedelta(minutes=1)  # `last_used_at` is as fine as this


@dataclass(frozen=True, slots=True)
class Made:
    """A new endpoint: the address for the provider, and its secret unless the address is all; shown this once."""

    row: IncomingEndpoint
    url: str = field(repr=False)
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a delivery."""

    events: int = 0
    repeated: bool = False
    challenge: str | None = None


def url_of(context: Context, provider: str, token: str) -> str:
    """The address that a provider is told (contract §2.10)."""
    return f"{context.public_url}/external-trigger/{quote(provider)}?externalTriggerToken={quote(token)}"


def _owner(row: IncomingEndpoint) -> Owner:
    if row.account_id is not None:
        return Owner(row.project_id, "account", row.account_id)
    assert row.auth_config_id is not None
    return Owner(row.project_id, "auth_config", row.auth_config_id)


def _events(connector: Connector | None) -> Events:
    if connector is None or connector.events is None:
        title = connector.title if connector is not None else "this provider"
        raise errors.Unprocessable(
            f"the connector of {title} does not say how its webhooks are verified",
            hint="Without `events:` in its file nothing of it is taken in.",
        )
    return connector.events


async def create(
    tx: AsyncSession,
    context: Context,
    project: ProjectId,
    *,
    account_id: str | None = None,
    auth_config_id: str | None = None,
    secret: str | None = None,
) -> Made:
    """Make an endpoint for an account, or for all accounts of an auth config.

    `secret` is the one that the provider made, where it makes them. Raises NotFound, Unprocessable for a connector that does
    not say how to verify.
    """
    provider, config_id = await _subject(tx, project, account_id, auth_config_id)
    config = await tx.get(AuthConfig, config_id)
    assert config is not None
    events = _events(context.registry.of(config))
    if account_id is None and events.account is None:
        raise errors.Unprocessable(
            "one address for all accounts needs an event that names its account; this provider's do not",
            hint="Make an endpoint for each account, with account_id.",
        )
    if not events.needs_secret and secret is not None:
        raise errors.Unprocessable("this provider sends no secret along: the address is all that it knows")
    if events.needs_secret and secret is None:
        secret = ("whsec_" if events.standard_webhooks else "") + _new_secret(events)
    token = str(uuid.uuid4())
    row = await _add(tx, context, project, provider, account_id, auth_config_id, token, secret)
    target = ("incoming_endpoint", row.id)
    audit.note(tx, "incoming_endpoint.created", project_id=project, target=target, label=provider)
    return Made(row, url_of(context, provider, token), secret)


def _new_secret(events: Events) -> str:
    import base64
    import secrets

    raw = secrets.token_bytes(32)
    encoding = events.signature.secret_encoding if events.signature is not None else "text"
    if events.standard_webhooks or encoding == "base64":
        return base64.b64encode(raw).decode()
    return raw.hex()


async def _subject(
    tx: AsyncSession, project: ProjectId, account_id: str | None, auth_config_id: str | None
) -> tuple[str, str]:
    """The connector's key and the auth config. Raises NotFound."""
    if account_id is not None:
        account = await tx.get(Account, account_id)
        gone = account is None or account.project_id != project or account.status == "archived"
        if gone or account is None or account.auth_config_id is None:
            raise errors.NotFound("no such account")
        return account.connector_key, account.auth_config_id
    config = await tx.get(AuthConfig, auth_config_id) if auth_config_id is not None else None
    if config is None or config.project_id != project:
        raise errors.NotFound("no such auth config")
    return config.connector_key, config.id


async def _add(
    tx: AsyncSession,
    context: Context,
    project: str,
    provider: str,
    account_id: str | None,
    auth_config_id: str | None,
    token: str,
    secret: str | None,
) -> IncomingEndpoint:
    row = IncomingEndpoint(
        id=ids.nanoid(),
        project_id=project,
        provider=provider,
        account_id=account_id,
        auth_config_id=auth_config_id if account_id is None else None,
        token_hash=ids.digest(token),
        created_at=clock.now(),
    )
    if secret is not None:
        key = await sealing.ensure_key(tx, context.vault, _owner(row))
        row.sealed = key.seal(secret.encode(), name=f"incoming:{row.id}")
    tx.add(row)
    await tx.flush()
    return row


async def remember_token(tx: AsyncSession, context: Context, account: Account, token: str) -> None:
    """Let the External Trigger Token that an end user copied to the provider lead to the account that was linked."""
    known = await tx.scalar(select(IncomingEndpoint).where(IncomingEndpoint.token_hash == ids.digest(token)))
    if known is not None:
        known.account_id = account.id
        return
    await _add(tx, context, account.project_id, account.connector_key, account.id, None, token, None)


async def search(tx: AsyncSession, project: ProjectId) -> Sequence[IncomingEndpoint]:
    """The project's endpoints, oldest first."""
    query = select(IncomingEndpoint).where(IncomingEndpoint.project_id == project)
    return (await tx.scalars(query.order_by(IncomingEndpoint.created_at, IncomingEndpoint.id).limit(1000))).all()


async def remove(tx: AsyncSession, project: ProjectId, id: str) -> None:
    """Delete an endpoint: what still comes for it is not found. Raises NotFound."""
    row = await tx.get(IncomingEndpoint, id)
    if row is None or row.project_id != project:
        raise errors.NotFound(NOT_FOUND)
    target = ("incoming_endpoint", row.id)
    audit.note(tx, "incoming_endpoint.deleted", project_id=project, target=target, label=row.provider)
    await tx.delete(row)


async def take(context: Context, provider: str, token: str, request: Received) -> Taken:
    """Take a delivery in: find its endpoint, verify, then read, and pass its events on, all or none.

    Raises NotFound, the same for every address that leads nowhere, Unauthorized, and ValidationFailed for a body that is
    neither JSON nor a form.
    """
    async with context.db.read() as tx:
        row = await tx.scalar(select(IncomingEndpoint).where(IncomingEndpoint.token_hash == ids.digest(token)))
        if row is None or row.provider != provider:
            raise errors.NotFound(NOT_FOUND)
        connector, secret = await _opened(tx, context, row)
    if connector is None or connector.events is None:
        raise errors.NotFound(NOT_FOUND)
    events = connector.events
    verifying.verify(events, secret, request, clock.timestamp())
    body = _read(request)
    scope = request.scope(body)
    challenge = verifying.text_of(events.challenge, scope)
    if challenge:
        return Taken(challenge=challenge[:2000])
    items = dig(body, events.items) if events.items is not None else [None]
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise errors.ValidationFailed("Validation failed", errors=[f"{events.items}: must be a list of {MOST_ITEMS}"])
    taken = 0
    async with context.db.begin() as tx:
        for number, item in enumerate(items):
            seen = scope if events.items is None else {**scope, "item": item}
            taken += await _pass_on(tx, row, events, seen, body if events.items is None else item, request, number)
        if row.last_used_at is None or clock.now() - row.last_used_at > _USED:
            current = await tx.get(IncomingEndpoint, row.id)
            if current is not None:
                current.last_used_at = clock.now()
    return Taken(events=taken, repeated=bool(items) and not taken)


async def _opened(tx: AsyncSession, context: Context, row: IncomingEndpoint) -> tuple[Connector | None, str | None]:
    """The endpoint's connector and its secret; no connector where the account is gone."""
    config_id = row.auth_config_id
    if row.account_id is not None:
        account = await tx.get(Account, row.account_id)
        if account is None or account.status == "archived":
            return None, None
        config_id = account.auth_config_id
    config = await tx.get(AuthConfig, config_id) if config_id is not None else None
    if config is None:
        return None, None
    connector = context.registry.of(config)
    if row.sealed is None:
        return connector, None
    try:
        key = await sealing.open_key(tx, context.vault, _owner(row))
        return connector, key.open(row.sealed, name=f"incoming:{row.id}").decode()
    except VaultError:
        return None, None


def _read(request: Received) -> Any:
    """The body as data: JSON, a form, or nothing."""
    if not request.body:
        return None
    if "x-www-form-urlencoded" in request.headers.get("content-type", "").lower():
        try:
            form: dict[str, Any] = dict(parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=500))
        except (UnicodeDecodeError, ValueError):
            raise errors.ValidationFailed("Validation failed", errors=["body: is no form"]) from None
        if set(form) == {"payload"}:
            form = {"payload": _json(form["payload"].encode())}
        return form
    return _json(request.body)


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise errors.ValidationFailed("Validation failed", errors=["body: is not JSON"]) from None


async def _pass_on(
    tx: AsyncSession,
    row: IncomingEndpoint,
    events: Events,
    scope: dict[str, Any],
    data: Any,
    request: Received,
    number: int,
) -> int:
    """Write one event, unless it was written before or names an account that is not here. Returns how many."""
    id = verifying.text_of(events.id, scope)
    unnamed = request.body + (b":%d" % number if events.items is not None else b"")
    key = verifying.fingerprint(id, unnamed)
    if not await _is_new(tx, row.id, key):
        return 0
    account_id = row.account_id
    if account_id is None:
        account_id = await _account(tx, row, verifying.text_of(events.account, scope))
        if account_id is None:
            return 0
    payload = {
        "provider": row.provider,
        "provider_event_id": id or None,
        "provider_event_type": verifying.text_of(events.type, scope) or None,
        "data": data,
    }
    await webhooks.emit(
        tx,
        project_id=row.project_id,
        event=EVENT,
        record_id=id or key.hex()[:32],
        account_id=account_id,
        payload={name: value for name, value in payload.items() if value is not None},
    )
    return 1


async def _is_new(tx: AsyncSession, endpoint_id: str, key: bytes) -> bool:
    insert = sqlite.insert if tx.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(IncomingDelivery).values(endpoint_id=endpoint_id, key=key, created_at=clock.now())
    try:
        result: Any = await tx.execute(statement.on_conflict_do_nothing())
    except IntegrityError:  # the endpoint was deleted meanwhile
        raise errors.NotFound(NOT_FOUND) from None
    return bool(result.rowcount)


async def _account(tx: AsyncSession, row: IncomingEndpoint, identity: str) -> str | None:
    if not identity:
        return None
    query = (
        select(Account.id)
        .where(
            Account.auth_config_id == row.auth_config_id,
            Account.identity == identity[:500],
            Account.status != "archived",
        )
        .order_by(Account.created_at)
        .limit(1)
    )
    found: str | None = await tx.scalar(query)
    return found


async def purge(tx: AsyncSession) -> None:
    """Forget deliveries whose repetition nobody sends any more."""
    await tx.execute(delete(IncomingDelivery).where(IncomingDelivery.created_at < clock.now() - REMEMBERED))
