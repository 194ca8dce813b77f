"""Launches: the form is posted to the attempt, and the browser opens a URL that carries nothing but a code for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.auth_configs import service as auth_configs
from mooring.connect import linking, oauth, reporting, service
from mooring.connect.linking import Form
from mooring.connect.models import ConnectionAttempt, ConnectionLaunch, ConnectSession
from mooring.connect.oauth import Started
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids

LAUNCH_SECONDS: Final = 120
_SEALED: Final = "connection_launch"


@dataclass(frozen=True, slots=True)
class Launch:
    """A prepared launch. The URL holds its one-time code."""

    attempt_id: str
    url: str


@dataclass(frozen=True, slots=True)
class Found:
    """A launch that waits, as the page that asks before it goes on needs it."""

    attempt_id: str
    session_id: int
    project_id: str
    owner_name: str
    connector_title: str
    bound: bool  # to the browser that opened a mailed link


async def prepare(
    tx: AsyncSession,
    context: Context,
    session: ConnectSession,
    *,
    integration_id: str,
    account_id: str | None,
    values: Mapping[str, Any],
    return_url: str | None,
) -> Launch:
    """Check the form, begin an attempt and keep the form for it, sealed.

    Raises NotFound for a config or account that the session may not use, Unprocessable for a faulty form.
    """
    account_id = session.account_id or account_id
    if account_id is not None:
        await service.owned_account(tx, session, context.registry, account_id)
    config = await service.config_of(tx, session, context.registry, integration_id, account_id)
    back = await oauth.checked_return(context, session, return_url)
    opened = await auth_configs.open_config(tx, context.vault, context.registry, config)
    oauth.require_consent_page(opened)
    stored = await linking.existing_form(tx, context, session, config, account_id)
    form = linking.read_form(opened.method, values, stored)
    attempt = await service.start_attempt(tx, session)
    code = ids.secret_token()
    key = await sealing.ensure_key(tx, context.vault, auth_configs.owner_of(config))
    payload = orjson.dumps({"public": dict(form.public), "secret": dict(form.secret)})
    tx.add(
        ConnectionLaunch(
            attempt_id=attempt.id,
            code_hash=ids.digest(code),
            auth_config_id=config.id,
            account_id=account_id,
            return_url=back,
            sealed=key.seal(payload, name=f"{_SEALED}:{attempt.id}"),
            expires_at=clock.now() + timedelta(seconds=LAUNCH_SECONDS),
        )
    )
    await tx.flush()
    return Launch(attempt.id, f"{context.public_url}/connect/launch/{attempt.id}?{urlencode({'code': code})}")


async def look(context: Context, attempt_id: str, code: str) -> Found:
    """What a launch URL would begin. Raises BadRequest for one that is unknown, used or too old."""
    async with context.db.read() as tx:
        row = await _row(tx, attempt_id, code)
        attempt = await tx.get_one(ConnectionAttempt, row.attempt_id)
        session = await tx.get_one(ConnectSession, attempt.session_id)
        config = await auth_configs.get(tx, ProjectId(session.project_id), row.auth_config_id)
    connector = context.registry.of(config)
    return Found(
        attempt_id=attempt.id,
        session_id=session.id,
        project_id=session.project_id,
        owner_name=session.origin_owner_name,
        connector_title=connector.title if connector else config.connector_key,
        bound=session.browser_hash is not None,
    )


def came_from_hub(found: Found, fetch_site: str | None, *, confirmed: bool) -> bool:
    """Whether the browser comes from the page that posted the form, as far as it tells (Fetch Metadata).

    A mailed link's page is our own, so only our origin will do. An embedded Hub's page is of another site, which looks the
    same as a link in somebody's web mail: there the code's two minutes must do. A browser that tells nothing is asked.
    """
    if fetch_site is None:
        return confirmed
    return fetch_site == "same-origin" or (fetch_site in {"cross-site", "same-site"} and not found.bound)


async def start(context: Context, found: Found, code: str, browser: str | None) -> Started:
    """Use a launch up and begin its flow.

    Raises BadRequest for a code that was used meanwhile, SessionExpired, Conflict for an attempt that is over, NotFound
    and Unprocessable for a config that is gone or disabled.
    """
    async with context.db.begin() as tx:
        row = await _row(tx, found.attempt_id, code)
        used = await tx.execute(delete(ConnectionLaunch).where(ConnectionLaunch.attempt_id == row.attempt_id))
        if used.rowcount != 1:  # type: ignore[attr-defined]
            raise _spent()
        attempt = await service.get_attempt(tx, found.session_id, found.attempt_id)
        session = await tx.get_one(ConnectSession, attempt.session_id)
        if session.expires_at <= clock.now():
            raise errors.SessionExpired("the connect session has expired")
        if service.attempt_status(attempt) != "pending":
            raise errors.Conflict("this connection attempt is already over", hint="Start a new one.")
        config = await auth_configs.get(tx, ProjectId(session.project_id), row.auth_config_id)
        if not config.active:
            raise errors.Unprocessable("this auth config was disabled meanwhile")
        opened = await auth_configs.open_config(tx, context.vault, context.registry, config)
        key = await sealing.open_key(tx, context.vault, auth_configs.owner_of(config))
        payload = orjson.loads(key.open(row.sealed, name=f"{_SEALED}:{row.attempt_id}"))
    form = Form(payload["public"], payload["secret"], {})
    try:
        await oauth.check_way_back(context, opened, form)
        return await oauth.begin(
            context, session, attempt, opened, form, row.return_url, browser, account_id=row.account_id
        )
    except errors.CredentialRejected as e:
        failed, text = reporting.attempt_words(opened.connector.title, e, None)
        await oauth.fail_attempt(context, session.id, attempt.id, failed, text)
        raise
    except errors.MooringError as e:  # such as an address that the form made wrong: the Hub learns of it by the attempt
        await oauth.fail_attempt(context, session.id, attempt.id, e.error_code, e.message)
        raise


async def _row(tx: AsyncSession, attempt_id: str, code: str) -> ConnectionLaunch:
    if len(attempt_id) <= 36 and 0 < len(code) <= 200:
        row = await tx.scalar(
            select(ConnectionLaunch).where(
                ConnectionLaunch.attempt_id == attempt_id,
                ConnectionLaunch.code_hash == ids.digest(code),
                ConnectionLaunch.expires_at > clock.now(),
            )
        )
        if row is not None:
            return row
    raise _spent()


def _spent() -> errors.BadRequest:
    return errors.BadRequest(
        "this sign-in link was already used, or is older than two minutes",
        code="LaunchSpentError",
        hint="Start again from the page where you clicked Connect.",
    )


async def linked_account(
    tx: AsyncSession, context: Context, session: ConnectSession, attempt: ConnectionAttempt
) -> dict[str, Any]:
    """The account that an attempt linked, with the scopes that were asked for and not granted."""
    assert attempt.account_id is not None
    out: dict[str, Any] = {"id": attempt.account_id}
    try:
        account, config = await accounts.get(tx, ProjectId(session.project_id), attempt.account_id)
    except errors.NotFound:  # deleted since
        return out
    return {
        **out,
        "provider": account.connector_key,
        "integration_id": config.id,
        "missing_scopes": missing_scopes(context, account.connector_key, config.method_key, account.missing_scopes),
    }


def missing_scopes(context: Context, connector_key: str, method_key: str, names: list[str]) -> list[dict[str, Any]]:
    """Scopes with the reason that the connector gives for each."""
    connector = context.registry.get(connector_key)
    method = connector.auth.get(method_key) if connector else None
    reasons = method.oauth2.scope_reasons if method and method.oauth2 else {}
    return [{"name": name, "reason": reasons.get(name)} for name in names]
