"""The browser side of linking: OAuth start, callback, and the page where the popup lands (contract §2.13)."""

from __future__ import annotations

import html
import json
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from mooring import errors
from mooring.accounts.context import Context
from mooring.connect import launches, oauth
from mooring.connect.languages import asked_for, say
from mooring.diagnosis.table import CAUSES
from mooring.kit.web import page
from mooring.protocol.redact import clean_line

router = APIRouter(include_in_schema=False)

RESERVED = frozenset({"redirect_uri", "token", "connection_attempt_id"})
COOKIE_SECONDS = oauth.TRANSACTION_SECONDS
_ABOUT_TO = (
    "You are about to connect an account at {provider} for {owner} in {app}. "
    "If you did not ask for this, close this window."
)


def _language(request: Request) -> str:
    return asked_for(request.headers.get("accept-language", ""))


def refusal_page(request: Request, error: errors.MooringError) -> Response:
    """The page for a refusal that a person sees. Text from outside is shown as text, never as markup or link (rule O9)."""
    language = _language(request)
    title = say(language, "This did not work")
    cause = CAUSES.get(str(error.extra.get("cause", "")))
    if cause is not None and language != "en":
        told: list[str | None] = [cause.for_user, cause.what_to_do]
    else:
        told = [error.message, error.error_hint]
    told.append("You can close this window and try again.")
    lines = "".join(f"<p>{html.escape(say(language, text))}</p>" for text in told if text)
    return page(title, f"<h1>{html.escape(title)}</h1>{lines}", status=error.status, language=language)


def _cookie_name(context: Context) -> str:
    # `__Host-` needs Secure, which plain http on a developer's machine can't have.
    return "__Host-mooring-connect" if context.public_url.startswith("https://") else "mooring-connect"


@router.get("/connect/oauth2/{integration_id}")
async def start_oauth(request: Request, integration_id: str) -> Response:
    """Send the browser to the provider. The query holds form values: it is never logged."""
    context: Context = request.app.state.context
    query = request.query_params
    started = await oauth.start(
        context,
        session_token=query.get("token", ""),
        integration_id=integration_id,
        attempt_id=query.get("connection_attempt_id") or None,
        return_url=query.get("redirect_uri") or None,
        values={k: v for k, v in query.items() if k not in RESERVED},
        browser=request.cookies.get(_cookie_name(context)),
    )
    return _redirect(context, started)


def _redirect(context: Context, started: oauth.Started) -> Response:
    response = RedirectResponse(started.url, status_code=302)
    response.set_cookie(
        _cookie_name(context),
        started.browser,
        max_age=COOKIE_SECONDS,
        path="/",
        secure=context.public_url.startswith("https://"),
        httponly=True,
        samesite="lax",  # the callback is a top-level navigation from the provider's site
    )
    return response


@router.get("/connect/launch/{attempt_id}")
async def launch(request: Request, attempt_id: str) -> Response:
    """Send the browser to the provider with the form that was posted for the attempt. Works once.

    Whoever did not come from the page that posted the form is asked first (rule O6): a launch URL may have been passed on.
    """
    context: Context = request.app.state.context
    query = request.query_params
    found = await launches.look(context, attempt_id, query.get("code", ""))
    if not launches.came_from_hub(found, request.headers.get("sec-fetch-site"), confirmed=query.get("go") == "1"):
        app = await context.projects(found.project_id)
        here = html.escape("?" + urlencode({"code": query.get("code", ""), "go": "1"}))
        language = _language(request)
        names = {"provider": found.connector_title, "owner": found.owner_name, "app": app.name}
        shown = {key: html.escape(text) for key, text in names.items()}
        bold = {key: f"<b>{text}</b>" for key, text in shown.items()}
        title = say(language, "Connect {provider}?")
        return page(
            title.format(**names),
            f"<h1>{html.escape(title).format(**shown)}</h1><p>{html.escape(say(language, _ABOUT_TO)).format(**bold)}</p>"
            f'<p><a class="go" href="{here}">{html.escape(say(language, "Continue to {provider}")).format(**shown)}</a></p>',
            language=language,
        )
    started = await launches.start(context, found, query.get("code", ""), request.cookies.get(_cookie_name(context)))
    return _redirect(context, started)


@router.get("/connect/oauth2/{connector_key}/callback")
async def oauth_callback(request: Request, connector_key: str) -> Response:
    """Take the provider's answer, link the account, and land on the return URL."""
    context: Context = request.app.state.context
    repeated = {k for k in request.query_params if len(request.query_params.getlist(k)) > 1}
    if repeated & {"state", "code", "error", "iss"}:  # RFC 6749 §3.1: parameters must not be repeated
        raise errors.BadRequest("the callback repeats a parameter", code="OAuthCallbackError")
    landed = await oauth.finish(
        context,
        connector_key=connector_key,
        params=dict(request.query_params),
        browser=request.cookies.get(_cookie_name(context)),
        request_id=request.scope.get("mooring.request_id"),
    )
    return RedirectResponse(landed.url, status_code=302)


@router.get("/embedded/accounts/callback")
async def landing(request: Request) -> Response:
    """Tell the page that opened the popup how it ended, in the three ways that Hubs of all ages listen for."""
    query, language = request.query_params, _language(request)
    ok = query.get("status") == "authenticated" and bool(query.get("account_id"))
    if ok:
        message: dict[str, object] = {
            "type": "AccountConnected",
            "account": {"id": query["account_id"][:80], "provider": query.get("provider", "")[:80]},
        }
        title, lines = "Connected", ["The account is linked. You can close this window."]
    else:
        error = clean_line(query.get("error", "error"), 100)
        description = clean_line(query.get("error_description", ""), 600)
        message = {"type": "CloseOAuth2", "error": error, "errorDescription": description}
        title, lines = "Not connected", [description or error, "You can close this window and try again."]
        cause = CAUSES.get(error)
        if (
            cause is not None and language != "en"
        ):  # the description stays: its words and its reference help whoever helps
            lines[:0] = [cause.for_user, cause.what_to_do]
    context: Context = request.app.state.context
    # The page that opened the popup is told if it is ours or of a registered origin; the browser compares.
    # `<` is escaped so that no text can end the script element.
    payload, origins = (
        json.dumps(value).replace("<", "\\u003c") for value in (message, context.settings.allowed_origins)
    )
    script = (
        f"const m={payload},to=[location.origin,...{origins}];"
        "try{new BroadcastChannel('oauth_channel').postMessage(m)}catch(e){}"
        "try{localStorage.setItem('oauth_result',JSON.stringify(m))}catch(e){}"
        "for(const o of to)try{if(window.opener)window.opener.postMessage(m,o)}catch(e){}"
        "setTimeout(()=>window.close(),600)"
    )
    title = say(language, title)
    text = "".join(f"<p>{html.escape(say(language, line))}</p>" for line in lines)
    return page(title, f"<h1>{html.escape(title)}</h1>{text}", script=script, language=language)
