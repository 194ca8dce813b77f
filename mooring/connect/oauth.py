"""The authorization code flow: start, callback, and everything that a forged callback must fail at (rules O1 to O9)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import delete, update

from mooring import errors
from mooring.accounts import credentials, tokens
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.accounts.credentials import Secrets
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.connect import linking, service
from mooring.connect.linking import Form
from mooring.connect.models import ConnectionAttempt, ConnectSession, OAuthTransaction
from mooring.connectors.apply import render_map
from mooring.connectors.definition import OAuth2
from mooring.identity import audit, sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids
from mooring.protocol import oauth2 as messages
from mooring.protocol.redact import clean_line

log = structlog.get_logger(__name__)

TRANSACTION_SECONDS = 600  # rule O2
MIN_BROWSER = 40  # characters of a cookie of ours
MAX_URL = 2000  # characters; as long as its column
_SEALED = "oauth_transaction"


@dataclass(frozen=True, slots=True)
class Started:
    """Where the browser goes, and the cookie value that binds the flow to it."""

    url: str
    browser: str


@dataclass(frozen=True, slots=True)
class Landed:
    """Where the browser goes after the callback."""

    url: str


async def start(
    context: Context,
    *,
    session_token: str,
    integration_id: str,
    attempt_id: str | None,
    return_url: str | None,
    values: Mapping[str, str],
    browser: str | None,
) -> Started:
    """Begin a flow: check session, config, attempt and return URL, commit the transaction, give the provider's URL.

    Raises SessionExpired, NotFound, BadRequest for a return URL that is not allowed, Unprocessable for a faulty form. A
    fault that the end user can mend is also noted on the attempt, because the Hub learns of it only there.
    """
    async with context.db.begin() as tx:
        session = await service.by_token(tx, session_token)
        service.require_browser(session, None)  # a link that a browser has opened goes on by launches alone
        return_url = await checked_return(context, session, return_url)
        config = await service.config_of(tx, session, context.registry, integration_id)
        if attempt_id is None:  # Hubs before 1.6 send none
            attempt = await service.start_attempt(tx, session)
        else:
            attempt = await service.get_attempt(tx, session.id, attempt_id)
        if service.attempt_status(attempt) != "pending":
            raise errors.Conflict("this connection attempt is already over", hint="Start a new one.")
        opened = await auth_configs.open_config(tx, context.vault, context.registry, config)
    try:
        require_consent_page(opened)
        form = linking.read_form(opened.method, values, Form(await _stored_public(context, session, config), {}, {}))
    except errors.Unprocessable as e:
        await fail_attempt(context, session.id, attempt.id, "invalid_form", e.message)
        raise
    return await begin(context, session, attempt, opened, form, return_url, browser, account_id=session.account_id)


async def checked_return(context: Context, session: ConnectSession, url: str | None) -> str:
    """Where the flow returns to; our own landing page unless told. Raises BadRequest for a place not allowed (rule O8)."""
    url = url or f"{context.public_url}/embedded/accounts/callback"
    # Browsers drop tabs and line breaks from a URL, so what was checked would not be where they go.
    plain = url.isascii() and url.isprintable() and " " not in url
    if (
        not plain
        or len(url) > MAX_URL
        or not context.is_allowed_return(url, await context.projects(session.project_id))
    ):
        raise errors.BadRequest(
            "redirect_uri is not on an allowed origin",
            code="RedirectNotAllowedError",
            hint="Add the origin of the page that embeds the Hub to the project's allowed origins: PATCH /project.",
        )
    return url


def require_consent_page(opened: OpenConfig) -> None:
    """Refuse a method that needs no browser. Raises Unprocessable."""
    if opened.method.oauth2 is None or opened.method.oauth2.grant != "authorization_code":
        raise errors.Unprocessable("this auth method has no consent page", hint="Post the form to /hub/accounts.")


async def _stored_public(context: Context, session: ConnectSession, config: AuthConfig) -> Mapping[str, str]:
    if session.account_id is None:
        return {}
    async with context.db.read() as tx:
        account, current = await accounts.get(tx, ProjectId(session.project_id), session.account_id)
    return account.setup if current.id == config.id else {}


async def begin(
    context: Context,
    session: ConnectSession,
    attempt: ConnectionAttempt,
    opened: OpenConfig,
    form: Form,
    return_url: str,
    browser: str | None,
    *,
    account_id: str | None,
) -> Started:
    """Commit the transaction of a flow, then say where the browser goes."""
    oauth2 = opened.method.oauth2
    assert oauth2 is not None and oauth2.authorize_url is not None
    state, verifier = ids.secret_token(), ids.secret_token(48)
    # A browser keeps its value, so that two flows can run side by side; a short one can't be ours.
    browser = browser if browser and len(browser) >= MIN_BROWSER else ids.secret_token()
    scope = {**opened.setup, **form.public, **form.secret}
    redirect_uri = context.callback_url(opened.connector.key)
    url = messages.authorization_url(
        tokens.render_url(oauth2.authorize_url, scope),
        client_id=opened.setup.get("client_id", ""),
        redirect_uri=redirect_uri,
        state=state,
        scopes=opened.scopes,
        scope_separator=oauth2.scope_separator,
        challenge=messages.pkce_challenge(verifier) if oauth2.pkce else None,
        extra=render_map(oauth2.authorize_params, scope),
    )
    now = clock.now()
    async with context.db.begin() as tx:
        key = await sealing.ensure_key(tx, context.vault, auth_configs.owner_of(opened.row))
        state_hash = ids.digest(state)
        payload = {"verifier": verifier, "public": dict(form.public), "secret": dict(form.secret)}
        tx.add(
            OAuthTransaction(
                state_hash=state_hash,
                project_id=session.project_id,
                session_id=session.id,
                attempt_id=attempt.id,
                auth_config_id=opened.row.id,
                connector_key=opened.connector.key,
                account_id=account_id,
                browser_hash=ids.digest(browser),
                redirect_uri=redirect_uri,
                return_url=return_url,
                issuer=tokens.render_url(oauth2.issuer, scope) if oauth2.issuer else None,
                sealed=key.seal(orjson.dumps(payload), name=f"{_SEALED}:{state_hash.hex()}"),
                created_at=now,
                expires_at=now + timedelta(seconds=TRANSACTION_SECONDS),
            )
        )
        await tx.execute(delete(OAuthTransaction).where(OAuthTransaction.expires_at < now - timedelta(days=1)))
    return Started(url, browser)


async def finish(context: Context, *, connector_key: str, params: Mapping[str, str], browser: str | None) -> Landed:
    """Take a callback. The transaction is consumed by the first one that names its state, whatever follows.

    Raises BadRequest for a callback that belongs to no live transaction of this browser; nothing is sent anywhere then.
    """
    transaction = await _consume(context, connector_key, params.get("state"))
    fault = _forgery(transaction, connector_key, browser)
    if fault is not None:
        log.warning("oauth callback refused", reason=fault, connector=transaction.connector_key)
        await fail_attempt(context, transaction.session_id, transaction.attempt_id, "callback_refused", fault)
        raise errors.BadRequest(
            f"this sign-in can't be finished here: {fault}",
            code="OAuthCallbackError",
            hint="Start again from the page where you clicked Connect, in the same browser.",
        )
    try:
        account_id = await _complete(context, transaction, params)
    except errors.MooringError as e:
        code = str(e.extra.get("cause") or e.extra.get("oauth_error") or e.error_code)
        description = f"{e.message} {e.error_hint}" if e.error_hint else e.message
        await fail_attempt(context, transaction.session_id, transaction.attempt_id, code, description)
        return Landed(_landing(transaction, "error", error=code, error_description=description))
    except Exception:
        await fail_attempt(
            context,
            transaction.session_id,
            transaction.attempt_id,
            "internal_error",
            "Something went wrong in the hub.",
        )
        raise
    return Landed(_landing(transaction, "authenticated", account_id=account_id, provider=transaction.connector_key))


async def _consume(context: Context, connector_key: str, state: str | None) -> OAuthTransaction:
    if not state or len(state) > 200:
        raise errors.BadRequest("the callback has no state", code="OAuthCallbackError")
    now = clock.now()
    async with context.db.begin() as tx:
        state_hash = ids.digest(state)
        consumed = await tx.execute(
            update(OAuthTransaction)
            .where(
                OAuthTransaction.state_hash == state_hash,
                OAuthTransaction.consumed_at.is_(None),
                OAuthTransaction.expires_at > now,
            )
            .values(consumed_at=now)
        )
        if consumed.rowcount != 1:  # type: ignore[attr-defined]
            log.warning("oauth callback refused", reason="unknown, used or expired state", connector=connector_key[:80])
            raise errors.BadRequest(
                "this sign-in is unknown, already finished, or took longer than ten minutes",
                code="OAuthCallbackError",
                hint="Start again from the page where you clicked Connect.",
            )
        return await tx.get_one(OAuthTransaction, state_hash)


def _forgery(transaction: OAuthTransaction, connector_key: str, browser: str | None) -> str | None:
    if transaction.connector_key != connector_key:
        return "the callback address belongs to another connector"  # mix-up between connectors (rule O4)
    if browser is None or not hmac.compare_digest(ids.digest(browser), transaction.browser_hash):
        return "it was started in another browser"  # session fixation (rule O6)
    return None


async def _complete(context: Context, transaction: OAuthTransaction, params: Mapping[str, str]) -> str:
    async with context.db.read() as tx:
        session = await tx.get_one(ConnectSession, transaction.session_id)
        audit.act_as(service.actor_of(session))
        attempt = await service.get_attempt(tx, session.id, transaction.attempt_id)
        if service.attempt_status(attempt) != "pending":
            raise errors.Conflict("the connection attempt was cancelled or has expired")
        row = await auth_configs.get(tx, ProjectId(transaction.project_id), transaction.auth_config_id)
        if not row.active:
            raise errors.Unprocessable("this auth config was disabled meanwhile", extra={"oauth_error": "disabled"})
        if transaction.account_id is not None:  # it may have been deleted meanwhile: then no code is sent
            await accounts.get(tx, ProjectId(transaction.project_id), transaction.account_id)
        opened = await auth_configs.open_config(tx, context.vault, context.registry, row)
        key = await sealing.open_key(tx, context.vault, auth_configs.owner_of(row))
        name = f"{_SEALED}:{transaction.state_hash.hex()}"
        payload: dict[str, Any] = orjson.loads(key.open(transaction.sealed, name=name))
    oauth2 = opened.method.oauth2
    assert oauth2 is not None
    _check_issuer(transaction, oauth2, params.get("iss"))
    if "error" in params:
        code = clean_line(params["error"], 80)
        text = clean_line(params.get("error_description", ""), 300)
        reason = "access was denied at the provider" if code == "access_denied" else f"the provider answered {code!r}"
        raise errors.Unprocessable(f"{reason}: {text}" if text else reason, extra={"oauth_error": code})
    code = params.get("code", "")
    if not code:
        raise errors.Unprocessable("the provider sent neither a code nor an error", extra={"oauth_error": "no_code"})
    form = Form(payload["public"], payload["secret"], {})
    kept = {n: params[q] for n, q in oauth2.callback_keep.items() if params.get(q)}
    _check_kept(oauth2, kept)
    scope = {**opened.setup, **form.public, **form.secret, **kept}
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": transaction.redirect_uri}
    if oauth2.pkce:
        grant["code_verifier"] = payload["verifier"]
    answer = await linking.ask_token(context, opened, scope, grant, form)
    secrets = credentials.with_token(Secrets(fields=form.secret, kept=kept), oauth2, answer)
    new = await linking.tested(context, opened, form, secrets, answer)
    async with context.db.begin() as tx:
        live = await service.get_attempt(tx, session.id, transaction.attempt_id, lock=True)
        if service.attempt_status(live) != "pending":  # cancelled while the provider was asked: connect nothing
            raise errors.Conflict("the connection attempt was cancelled or has expired")
        account = await linking.save(tx, context, session, new, account_id=transaction.account_id)
        await service.finish_attempt(tx, live, "authenticated", account_id=account.id)
        return account.id


def _check_issuer(transaction: OAuthTransaction, oauth2: OAuth2, iss: str | None) -> None:
    """RFC 9207 §2.4: compare byte for byte where we know the issuer; demand it where the provider promises it."""
    if transaction.issuer is None:
        return
    if iss is None:
        if oauth2.iss_required:
            raise errors.Unprocessable(
                "the provider's answer lacks its issuer", extra={"oauth_error": "issuer_missing"}
            )
    elif iss != transaction.issuer:
        raise errors.Unprocessable(
            "the answer comes from another issuer than the one that was asked", extra={"oauth_error": "issuer_mismatch"}
        )


def _check_kept(oauth2: OAuth2, kept: Mapping[str, str]) -> None:
    for name, value in kept.items():
        pattern = oauth2.keep_patterns.get(name)
        if pattern is not None and not re.fullmatch(pattern, value):
            raise errors.Unprocessable(
                f"the callback holds an unexpected {name}", extra={"oauth_error": "bad_callback"}
            )


async def fail_attempt(context: Context, session_id: int, attempt_id: str, code: str, description: str) -> None:
    """Note a failure on an attempt that is still pending."""
    async with context.db.begin() as tx:
        attempt = await service.get_attempt(tx, session_id, attempt_id, lock=True)
        await service.finish_attempt(tx, attempt, "error", code=code, description=description)


def _landing(transaction: OAuthTransaction, status: str, **values: str) -> str:
    params = {"connection_attempt_id": transaction.attempt_id, "status": status, **values}
    return messages.add_query(transaction.return_url, [*params.items()])
