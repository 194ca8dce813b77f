"""The authorization code flow: start, callback, and everything that a forged callback must fail at (rules O1 to O9)."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import delete, update

from mooring import errors
from mooring.accounts import diagnosing, tokens
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.accounts.credentials import Secrets
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.connect import linking, reporting, service
from mooring.connect.linking import Form
from mooring.connect.models import ConnectionAttempt, ConnectSession, OAuthTransaction
from mooring.connectors.apply import render_map
from mooring.connectors.definition import OAuth2
from mooring.connectors.meanings import declared_cause
from mooring.diagnosis import report
from mooring.diagnosis.evidence import Evidence
from mooring.diagnosis.rules import diagnose
from mooring.diagnosis.table import CAUSES
from mooring.identity import audit, sealing
from mooring.identity.service import ProjectId
from mooring.kit import clock, ids
from mooring.kit.http import HttpFailure
from mooring.protocol import oauth2 as messages
from mooring.protocol.redact import clean_line

log = structlog.get_logger(__name__)

TRANSACTION_SECONDS = 600  # rule O2
CHECK_SECONDS = 1.0
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

    Raises SessionExpired, NotFound, BadRequest for a return URL that is not allowed, Unprocessable for a faulty form.
    What goes wrong once the attempt is known is also noted on it, because the Hub learns of it only there.
    """
    async with context.db.begin() as tx:
        session = await service.by_token(tx, session_token)
        service.require_browser(session, None)  # a link that a browser has opened goes on by launches alone
        if attempt_id is None:  # Hubs before 1.6 send none
            attempt = await service.start_attempt(tx, session)
        else:
            attempt = await service.get_attempt(tx, session.id, attempt_id)
        if service.attempt_status(attempt) != "pending":
            raise errors.Conflict("this connection attempt is already over", hint="Start a new one.")
    try:
        async with context.db.read() as tx:
            config = await service.config_of(tx, session, context.registry, integration_id)
            opened = await auth_configs.open_config(tx, context.vault, context.registry, config)
        return_url = await checked_return(context, session, return_url)
        require_consent_page(opened)
        form = linking.read_form(opened.method, values, await _stored(context, session, config))
        await check_way_back(context, opened, form)
        return await begin(context, session, attempt, opened, form, return_url, browser, account_id=session.account_id)
    except errors.CredentialRejected as e:
        code, text = reporting.attempt_words(opened.connector.title, e, None)
        await fail_attempt(context, session.id, attempt.id, code, text)
        raise
    except errors.MooringError as e:
        code = "invalid_form" if isinstance(e, errors.Unprocessable) else e.error_code
        description = f"{e.message}. {e.error_hint}" if e.error_hint else e.message
        await fail_attempt(context, session.id, attempt.id, code, description)
        raise


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


async def check_way_back(context: Context, opened: OpenConfig, form: Form) -> None:
    """Refuse before anybody consents what can't succeed: a token endpoint that the egress guard blocks.

    Costs a look into the guard's cache. A failure of DNS may pass, so it stops nothing here.
    """
    assert opened.method.oauth2 is not None
    url = tokens.render_url(opened.method.oauth2.token_url, {**opened.setup, **form.public, **form.secret})
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await context.http.resolve(url)
    except TimeoutError:
        return
    except HttpFailure as e:
        if e.kind == "blocked":
            found = diagnosing.of_failure(e, "token_exchange", None, form.typed)
            raise diagnosing.refusal(opened.connector, found) from None


def require_consent_page(opened: OpenConfig) -> None:
    """Refuse a method that needs no browser. Raises Unprocessable."""
    if opened.method.oauth2 is None or opened.method.oauth2.grant != "authorization_code":
        raise errors.Unprocessable("this auth method has no consent page", hint="Post the form to /hub/accounts.")


async def _stored(context: Context, session: ConnectSession, config: AuthConfig) -> Form | None:
    """What the account to be relinked holds of this form, secrets included: the Hub leaves out what nobody touched."""
    async with context.db.read() as tx:
        if session.account_id is None:
            await linking.require_here(tx, session, config)
            return None
        account, current = await accounts.get(tx, ProjectId(session.project_id), session.account_id)
        return await linking.stored_form(tx, context, account, current, config)


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
    request = messages.authorization_request(
        client_id=opened.setup.get("client_id", ""),
        redirect_uri=redirect_uri,
        state=state,
        scopes=opened.scopes_for(scope),
        scope_separator=oauth2.scope_separator,
        challenge=messages.pkce_challenge(verifier) if oauth2.pkce else None,
        extra=render_map(oauth2.authorize_params, scope),
    )
    if oauth2.par_url is not None:  # the browser carries nothing but a reference (RFC 9126 §4)
        pushed = await linking.push_request(
            context, opened, scope, tokens.render_url(oauth2.par_url, scope), request, form
        )
        request = {"client_id": request["client_id"], "request_uri": pushed}
    url = messages.add_query(tokens.render_url(oauth2.authorize_url, scope), [*request.items()])
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


async def finish(
    context: Context,
    *,
    connector_key: str,
    params: Mapping[str, str],
    browser: str | None,
    request_id: str | None = None,
) -> Landed:
    """Take a callback. The transaction is consumed by the first one that names its state, whatever follows.

    A failure ends the attempt with its cause, and is logged for the operator under `request_id`. Raises BadRequest for
    a callback that belongs to no live transaction of this browser; nothing is sent anywhere then.
    """
    try:
        transaction = await _consume(context, connector_key, params.get("state"))
    except errors.BadRequest:
        await _note_refused(context, params.get("state"), "state_expired")
        raise
    fault = _forgery(transaction, connector_key, browser)
    if fault is not None:
        await _note_refused(context, params.get("state"), fault)
        cause = CAUSES[fault]
        log.warning("oauth callback refused", reason=fault, connector=transaction.connector_key)
        text = f"{cause.for_user} {cause.what_to_do}"
        await fail_attempt(context, transaction.session_id, transaction.attempt_id, fault, text)
        raise errors.BadRequest(
            f"this sign-in can't be finished here: {cause.for_user}",
            code="OAuthCallbackError",
            hint=cause.what_to_do,
            extra={"cause": fault},
        )
    try:
        account_id = await _complete(context, transaction, params)
    except errors.MooringError as e:
        code, description = await _report(context, transaction, e, request_id)
        return Landed(_landing(transaction, "error", error=code, error_description=description))
    except Exception:
        await fail_attempt(
            context,
            transaction.session_id,
            transaction.attempt_id,
            "internal_error",
            f"{CAUSES['internal_error'].for_user} {CAUSES['internal_error'].what_to_do}",
        )
        raise
    return Landed(_landing(transaction, "authenticated", account_id=account_id, provider=transaction.connector_key))


async def _report(
    context: Context, transaction: OAuthTransaction, error: errors.MooringError, request_id: str | None
) -> tuple[str, str]:
    """Note a failure on the attempt and in the log. Returns its code and description."""
    connector = context.registry.get(transaction.connector_key)
    title = connector.title if connector is not None else transaction.connector_key
    code, description = reporting.attempt_words(title, error, request_id)
    await fail_attempt(context, transaction.session_id, transaction.attempt_id, code, description)
    async with context.db.read() as tx:
        session = await tx.get_one(ConnectSession, transaction.session_id)
    path = f"/connect/oauth2/{transaction.connector_key}/callback"
    reporting.log_failure(
        context,
        session,
        error,
        request_id=request_id,
        provider=transaction.connector_key,
        method="GET",
        path=path,
    )
    return code, description


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
                hint=CAUSES["state_expired"].what_to_do,
                extra={"cause": "state_expired"},
            )
        return await tx.get_one(OAuthTransaction, state_hash)


async def _note_refused(context: Context, state: str | None, cause: str) -> None:
    """Count a refused callback; one whose state was ours, such as a code that comes twice, is audited too (rule O7)."""
    context.counters.callback_refused(cause)
    if not state or len(state) > 200:
        return
    async with context.db.begin() as tx:
        row = await tx.get(OAuthTransaction, ids.digest(state))
        if row is not None:
            audit.note(
                tx,
                "connection.callback_refused",
                project_id=row.project_id,
                target=("connection_attempt", row.attempt_id),
                result="refused",
                detail={"cause": cause, "connector": row.connector_key},
            )


def _forgery(transaction: OAuthTransaction, connector_key: str, browser: str | None) -> str | None:
    """The cause for which a callback can't be this transaction's, or None."""
    if transaction.connector_key != connector_key:
        return "callback_mixed_up"  # between connectors (rule O4)
    if browser is None or not hmac.compare_digest(ids.digest(browser), transaction.browser_hash):
        return "other_browser"  # session fixation (rule O6)
    return None


async def _complete(context: Context, transaction: OAuthTransaction, params: Mapping[str, str]) -> str:
    async with context.db.read() as tx:
        session = await tx.get_one(ConnectSession, transaction.session_id)
        audit.act_as(service.actor_of(session))
        attempt = await service.get_attempt(tx, session.id, transaction.attempt_id)
        _require_pending(attempt)
        row = await auth_configs.get(tx, ProjectId(transaction.project_id), transaction.auth_config_id)
        if not row.active:
            raise reporting.refused("disabled", _title(context, transaction))
        if transaction.account_id is not None:  # it may have been deleted meanwhile: then no code is sent
            await accounts.get(tx, ProjectId(transaction.project_id), transaction.account_id)
        opened = await auth_configs.open_config(tx, context.vault, context.registry, row)
        key = await sealing.open_key(tx, context.vault, auth_configs.owner_of(row))
        name = f"{_SEALED}:{transaction.state_hash.hex()}"
        payload: dict[str, Any] = orjson.loads(key.open(transaction.sealed, name=name))
    oauth2 = opened.method.oauth2
    assert oauth2 is not None
    title = opened.connector.title
    denied = "error" in params
    # Several servers leave `iss` out of a denial. No code follows one, so there is nothing that a mix-up could steal.
    if not denied or "iss" in params:
        _check_issuer(transaction, oauth2, params.get("iss"), title)
    if denied:
        raise _denied(opened, params)
    code = params.get("code", "")
    if not code:
        raise reporting.refused("no_code", title)
    form = Form(payload["public"], payload["secret"], {})
    kept = {n: params[q] for n, q in oauth2.callback_keep.items() if params.get(q)}
    _check_kept(oauth2, kept, title)
    scope = {**opened.setup, **form.public, **form.secret, **kept}
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": transaction.redirect_uri}
    if oauth2.pkce:
        grant["code_verifier"] = payload["verifier"]
    answer = await linking.ask_token(context, opened, scope, grant, form)
    secrets = linking.with_token(opened, Secrets(fields=form.secret, kept=kept), answer)
    new = await linking.tested(context, opened, form, secrets, answer)
    async with context.db.begin() as tx:
        live = await service.get_attempt(tx, session.id, transaction.attempt_id, lock=True)
        _require_pending(live)  # cancelled while the provider was asked: connect nothing
        linked = await linking.save(tx, context, session, new, account_id=transaction.account_id)
        warning = linked.warning
        await service.finish_attempt(
            tx,
            live,
            "authenticated",
            account_id=linked.account.id,
            code=warning.code if warning else None,
            description=warning.description if warning else None,
        )
        return linked.account.id


def _require_pending(attempt: ConnectionAttempt) -> None:
    status = service.attempt_status(attempt)
    if status != "pending":
        cause = {"cancelled": "popup_closed", "expired": "attempt_expired"}.get(status, "state_expired")
        raise errors.Conflict("the connection attempt was cancelled or has expired", extra={"cause": cause})


def _title(context: Context, transaction: OAuthTransaction) -> str:
    connector = context.registry.get(transaction.connector_key)
    return connector.title if connector is not None else transaction.connector_key


def _denied(opened: OpenConfig, params: Mapping[str, str]) -> errors.MooringError:
    """What the provider's error callback means (rule O9: its words are text, cut, and end the transaction)."""
    error, text = clean_line(params["error"], 80), clean_line(params.get("error_description", ""), 300)
    words = f"{error}: {text}" if text else error
    declared = declared_cause(opened.connector, 0, {}, words.encode())
    found = diagnose(Evidence("callback", error=error, description=text or None, declared=declared))
    return report.refusal(opened.connector.title, replace(found, detail=words))


def _check_issuer(transaction: OAuthTransaction, oauth2: OAuth2, iss: str | None, title: str) -> None:
    """RFC 9207 §2.4: compare byte for byte where we know the issuer; demand it where the provider promises it."""
    if transaction.issuer is None:
        return
    if iss is None:
        if oauth2.iss_required:
            raise reporting.refused("issuer_missing", title)
    elif iss != transaction.issuer:
        raise reporting.refused("issuer_mismatch", title)


def _check_kept(oauth2: OAuth2, kept: Mapping[str, str], title: str) -> None:
    for name, value in kept.items():
        pattern = oauth2.keep_patterns.get(name)
        if pattern is not None and not re.fullmatch(pattern, value):
            raise reporting.refused("bad_callback", title, detail=f"the callback holds an unexpected {name}")


async def fail_attempt(context: Context, session_id: int, attempt_id: str, code: str, description: str) -> None:
    """Note a failure on an attempt that is still pending."""
    async with context.db.begin() as tx:
        attempt = await service.get_attempt(tx, session_id, attempt_id, lock=True)
        await service.finish_attempt(tx, attempt, "error", code=code, description=description)


def _landing(transaction: OAuthTransaction, status: str, **values: str) -> str:
    params = {"connection_attempt_id": transaction.attempt_id, "status": status, **values}
    return messages.add_query(transaction.return_url, [*params.items()])
