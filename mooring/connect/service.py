"""Rules and queries for connect sessions and connection attempts."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import service as accounts
from mooring.accounts.models import Account
from mooring.accounts.serving import NOT_FOUND
from mooring.auth_configs import availability
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.connect.models import ConnectionAttempt, ConnectSession
from mooring.connectors.registry import Registry
from mooring.identity import audit, project_settings
from mooring.identity.models import Project
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids
from mooring.webhooks import service as webhooks
from mooring.webhooks.events import attempt_payload

DEFAULT_SECONDS: Final = 1800
MAX_SECONDS: Final = 30 * 86400  # a link that is mailed; the reference product's dashboard makes such ones
ATTEMPT_SECONDS: Final = 600
MAX_ACCOUNTS: Final = 100  # that the Hub shows of one owner
MIN_BROWSER: Final = 40  # characters of a browser's key
MAX_BROWSER: Final = 200

CATEGORIES: Final = (
    "ats", "hris", "hris-legacy", "crm", "iam", "marketing", "lms", "stackone", "documents", "ticketing",
    "screening", "messaging", "accounting", "scheduling", "developer_tools", "storage", "ai", "other",
)  # fmt: skip
_SPELLINGS: Final = {"hrislegacy": "hris-legacy", "hris_legacy": "hris-legacy"}


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a caller asks of a new session (contract §2.1)."""

    origin_owner_id: str
    origin_owner_name: str
    origin_username: str | None = None
    provider: str | None = None
    integration_id: str | None = None
    account_id: str | None = None
    categories: Sequence[str] | None = None
    expires_in: float | None = None
    metadata: Mapping[str, Any] | None = None
    multiple: bool = False
    manage_accounts: bool | None = None
    label: str | None = None
    type: str | None = None


def category(name: str) -> str:
    """The category in the spelling that we emit; old names are accepted (contract §3.6 C6). Raises ValidationFailed."""
    lower = name.lower()
    found = _SPELLINGS.get(lower, lower)
    if found not in CATEGORIES:
        raise errors.ValidationFailed(
            f"unknown category {name[:40]!r}", errors=[f"categories: known are {', '.join(CATEGORIES)}"]
        )
    return found


async def create(
    tx: AsyncSession, registry: Registry, project: ProjectId, ask: SessionRequest
) -> tuple[ConnectSession, str]:
    """Create a session; returns it with its token, which is not kept.

    Raises NotFound for an unknown account, provider or config of this project, Unprocessable for one that is disabled or
    not available. An account that exists can be linked again whatever is available.
    """
    now = clock.now()
    seconds = DEFAULT_SECONDS if ask.expires_in is None else ask.expires_in
    if not 1 <= seconds <= MAX_SECONDS:
        raise errors.ValidationFailed(
            "Validation failed", errors=[f"expires_in: must be from 1 to {MAX_SECONDS} seconds"]
        )
    provider, integration_id = ask.provider, ask.integration_id
    if ask.account_id is not None:
        account, config = await accounts.get(tx, project, ask.account_id)
        if provider is not None and provider != account.connector_key:
            raise errors.Unprocessable(
                f"the account belongs to {account.connector_key!r}, not to {provider!r}",
                hint="Leave provider out when account_id is given.",
            )
        provider = account.connector_key
        integration_id = integration_id or config.id
    if integration_id is not None:
        config = await auth_configs.get(tx, project, integration_id)
        if provider is not None and config.connector_key != provider:
            raise errors.Unprocessable(f"the auth config belongs to {config.connector_key!r}, not to {provider!r}")
        if not config.active:
            raise errors.Unprocessable("this auth config is disabled", hint="Enable it, or choose another one.")
        provider = config.connector_key
    elif provider is not None:
        await _require_configured(tx, registry, project, provider)
    if provider is not None and ask.account_id is None:
        await availability.require(tx, project, provider)
    token = ids.secret_token()
    row = ConnectSession(
        project_id=project,
        token_hash=ids.digest(token),
        origin_owner_id=ask.origin_owner_id,
        origin_owner_name=ask.origin_owner_name,
        origin_username=ask.origin_username,
        provider=provider,
        integration_id=integration_id,
        account_id=ask.account_id,
        categories=[category(c) for c in ask.categories] if ask.categories else None,
        label=ask.label,
        meta=dict(ask.metadata) if ask.metadata is not None else None,
        multiple=ask.multiple and ask.account_id is None,
        type=ask.type or "production",
        external_trigger_token=ids.random_uuid(),
        manage_accounts=ask.account_id is None if ask.manage_accounts is None else ask.manage_accounts,
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    tx.add(row)
    await tx.flush()
    audit.note(
        tx,
        "connect_session.created",
        project_id=project,
        target=("connect_session", str(row.id)),
        label=ask.origin_owner_name,
        detail={"provider": provider, "account_id": ask.account_id},
    )
    return row, token


async def _require_configured(tx: AsyncSession, registry: Registry, project: ProjectId, provider: str) -> None:
    config = await auth_configs.default_for(tx, project, provider)
    if config is None:
        known = registry.get(provider) is not None
        raise errors.NotFound(
            f"the connector {provider[:80]!r} is not configured in this project"
            if known
            else f"there is no connector {provider[:80]!r}",
            hint="Create an auth config for it first: POST /auth_configs.",
        )
    if not config.active:
        raise errors.Unprocessable(
            f"the default auth config of {provider!r} is disabled", hint="Enable it, or pass integration_id."
        )


async def by_token(tx: AsyncSession, token: str | None, *, grace: float = 0) -> ConnectSession:
    """The session of a token that is live, or ended less than `grace` seconds ago.

    Raises SessionExpired, the same for unknown and expired tokens.
    """
    if token and len(token) <= 200:
        row = await tx.scalar(
            select(ConnectSession)
            .join(Project, Project.id == ConnectSession.project_id)
            .where(ConnectSession.token_hash == ids.digest(token), Project.deleted_at.is_(None))
        )
        if row is not None and row.expires_at + timedelta(seconds=grace) > clock.now():
            return row
    raise errors.SessionExpired("the connect session is unknown or has expired")


def actor_of(session: ConnectSession, address: str | None = None) -> audit.Actor:
    """The end user of a session as the audit log names them."""
    return audit.Actor("hub_session", str(session.id), session.origin_owner_name, address)


async def latest_attempt(tx: AsyncSession, session: ConnectSession) -> ConnectionAttempt | None:
    """The newest attempt of a session, or None."""
    return await tx.scalar(
        select(ConnectionAttempt)
        .where(ConnectionAttempt.session_id == session.id)
        .order_by(ConnectionAttempt.created_at.desc(), ConnectionAttempt.id.desc())
        .limit(1)
    )


def attempt_status(attempt: ConnectionAttempt) -> str:
    """The status as seen now: a pending attempt whose time is over has expired, whether or not anybody wrote that."""
    if attempt.status == "pending" and attempt.expires_at <= clock.now():
        return "expired"
    return attempt.status


async def start_attempt(tx: AsyncSession, session: ConnectSession) -> ConnectionAttempt:
    """Begin an attempt. It stays answerable for ten minutes."""
    now = clock.now()
    attempt = ConnectionAttempt(
        id=ids.random_uuid(),
        session_id=session.id,
        status="pending",
        created_at=now,
        updated_at=now,
        expires_at=now + timedelta(seconds=ATTEMPT_SECONDS),
    )
    tx.add(attempt)
    await tx.flush()
    await _announce(tx, attempt, session, "connection_attempt.started")
    return attempt


async def get_attempt(tx: AsyncSession, session_id: int, id: str, *, lock: bool = False) -> ConnectionAttempt:
    """An attempt of this session. Raises NotFound."""
    query = select(ConnectionAttempt).where(ConnectionAttempt.id == id, ConnectionAttempt.session_id == session_id)
    row = await tx.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise errors.NotFound("no such connection attempt")
    return row


async def finish_attempt(
    tx: AsyncSession,
    attempt: ConnectionAttempt,
    status: str,
    *,
    account_id: str | None = None,
    code: str | None = None,
    description: str | None = None,
) -> bool:
    """Move a pending attempt to its end. A terminal state never changes; returns whether this one did."""
    if attempt_status(attempt) != "pending":
        return False
    attempt.status = status
    attempt.account_id = account_id
    attempt.error_code = code[:100] if code else None
    attempt.error_description = description[:1000] if description else None
    attempt.updated_at = clock.now()
    session = await tx.get_one(ConnectSession, attempt.session_id)
    await _announce(tx, attempt, session, f"connection_attempt.{status}")
    return True


async def _announce(tx: AsyncSession, attempt: ConnectionAttempt, session: ConnectSession, event: str) -> None:
    payload = attempt_payload(
        provider=session.provider or "",
        integration_id=session.integration_id,
        origin_owner_id=session.origin_owner_id,
        origin_owner_name=session.origin_owner_name,
        error_code=None if attempt.status == "authenticated" else attempt.error_code,
        error_message=None if attempt.status == "authenticated" else attempt.error_description,
    )
    await webhooks.emit(
        tx,
        project_id=session.project_id,
        event=event,
        record_id=attempt.id,
        account_id=attempt.account_id,
        payload=payload,
    )


async def offered_configs(
    tx: AsyncSession,
    session: ConnectSession,
    registry: Registry,
    provider: str | None = None,
    *,
    every_method: bool = False,
) -> list[AuthConfig]:
    """The auth configs that the Hub shows in this session: active and available, at most one per connector.

    The session's integration alone (contract §3.6 C5), else the default of each connector, narrowed by the session's
    provider and categories. With `every_method` also the first config of each other method, after the default.
    """
    rows, _ = await auth_configs.search(
        tx,
        ProjectId(session.project_id),
        id=session.integration_id,
        connector_key=session.provider,
        active=True,
        only_default=session.integration_id is None and not every_method,
    )
    if every_method and session.integration_id is None:
        rows = _one_per_method(rows)
    # Whoever names an auth config has chosen; categories narrow only what is left to choose.
    wanted = set(session.categories or ()) if session.integration_id is None else set()
    off = await availability.reasons(tx, ProjectId(session.project_id)) if session.account_id is None else {}
    out = []
    for row in rows:
        connector = registry.of(row)
        if connector is None or row.method_key not in connector.auth or provider not in {None, connector.key}:
            continue
        if connector.key in off:
            continue
        if not wanted or wanted & set(connector.categories):
            out.append(row)
    return out


def _one_per_method(rows: Sequence[AuthConfig]) -> list[AuthConfig]:
    """The default first; of several configs for one method the default or the oldest."""
    seen, out = set(), []
    for row in sorted(rows, key=lambda r: not r.is_default):  # stable: the order of creation stays
        if (row.connector_key, row.method_key) not in seen:
            seen.add((row.connector_key, row.method_key))
            out.append(row)
    return out


async def config_of(
    tx: AsyncSession, session: ConnectSession, registry: Registry, integration_id: str, account_id: str | None = None
) -> AuthConfig:
    """An auth config that this session may use, for the account that is edited, if one is.

    Raises NotFound for any other, so a token can't wander.
    """
    account_id = account_id or session.account_id
    if account_id is not None:
        _, own = await accounts.get(tx, ProjectId(session.project_id), account_id)
        if own.id == integration_id and own.active:
            return own
    for row in await offered_configs(tx, session, registry, every_method=await _all_methods(tx, session)):
        if row.id == integration_id:
            return row
    raise errors.NotFound(
        "this connection is not offered here, or not any more",
        hint="Ask whoever sent you here. For the operator: the session does not cover this auth config, or it is disabled, "
        "or the connector is not available in the project.",
    )


async def _all_methods(tx: AsyncSession, session: ConnectSession) -> bool:
    return (await project_settings.get(tx, ProjectId(session.project_id))).offer_all_methods


async def owned_accounts(
    tx: AsyncSession, session: ConnectSession, registry: Registry
) -> list[tuple[Account, AuthConfig]]:
    """The accounts that this session may see: its own one, or those of its very owner (decision 15), newest first."""
    project = ProjectId(session.project_id)
    if session.account_id is not None:
        return [await accounts.get(tx, project, session.account_id)]
    if not session.manage_accounts:
        return []
    rows = await accounts.search(
        tx,
        project,
        owner_ids=[session.origin_owner_id],
        providers=[session.provider] if session.provider else (),
        limit=MAX_ACCOUNTS,
    )
    wanted = set(session.categories or ()) if session.provider is None else set()
    out = []
    for account, config in rows:
        connector = (registry.of(config) or registry.get(account.connector_key)) if config is not None else None
        if config is None or connector is None or account.origin_owner_name != session.origin_owner_name:
            continue
        if not wanted or wanted & set(connector.categories):
            out.append((account, config))
    return out


async def owned_account(
    tx: AsyncSession, session: ConnectSession, registry: Registry, id: str
) -> tuple[Account, AuthConfig]:
    """One of the accounts that this session may see. Raises NotFound, the same for foreign and unknown ids."""
    for account, config in await owned_accounts(tx, session, registry):
        if account.id == id:
            return account, config
    raise errors.NotFound(NOT_FOUND)


async def bind_browser(tx: AsyncSession, session: ConnectSession, browser: str) -> None:
    """Bind a mailed link to the first browser that goes on with it (rule O6). Raises SessionExpired in any other."""
    if len(browser) < MIN_BROWSER or len(browser) > MAX_BROWSER:
        raise errors.BadRequest("x-hub-browser must hold a random key of 40 to 200 characters")
    mine = ids.digest(browser)
    await tx.execute(
        update(ConnectSession)
        .where(ConnectSession.id == session.id, ConnectSession.browser_hash.is_(None))
        .values(browser_hash=mine)
    )
    bound = await tx.scalar(select(ConnectSession.browser_hash).where(ConnectSession.id == session.id))
    if bound != mine:
        raise opened_elsewhere()


def require_browser(session: ConnectSession, browser: str | None) -> None:
    """Refuse a session whose link belongs to another browser. Raises SessionExpired."""
    if session.browser_hash is not None and not hmac.compare_digest(
        ids.digest((browser or "")[:MAX_BROWSER]), session.browser_hash
    ):
        raise opened_elsewhere()


def opened_elsewhere() -> errors.SessionExpired:
    """The refusal for a link that another browser has opened."""
    return errors.SessionExpired(
        "this link was already opened in another browser",
        code="LinkInUseError",
        hint="Go on in the browser where you opened it first, or ask for a new link.",
    )
