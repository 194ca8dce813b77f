"""The sandbox's OAuth 2.0 endpoints: metadata, authorize, token, revoke."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mooring.sandbox import grants, pages
from mooring.sandbox.data import ALL_SCOPES, CLIENTS, COMPANIES, Client
from mooring.sandbox.faults import run_with_fault
from mooring.sandbox.grants import Issued, OAuthError
from mooring.sandbox.state import State, take_fault
from mooring.sandbox.wire import BodyTooLargeError, json_response, read_body, replay

MAX_FORM_BYTES = 65_536
WRONG_ISSUER = "https://mix-up.example"
_GRANTS = ("authorization_code", "refresh_token", "client_credentials")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _state(request: Request) -> State:
    state: State = request.app.state.sandbox
    return state


async def metadata(request: Request) -> Response:
    """Describe the server (RFC 8414). The `iss` switches do not show here: they simulate an attack."""
    issuer = _state(request).issuer
    methods = ["client_secret_basic", "client_secret_post"]
    return json_response(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "revocation_endpoint": f"{issuer}/oauth/revoke",
            "scopes_supported": list(ALL_SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(_GRANTS),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "service_documentation": f"{issuer}/",
        }
    )


async def authorize(request: Request) -> Response:
    """Show the consent page, or take its answer; the answer needs no page (for scripts)."""
    state, query = _state(request), request.query_params
    client = CLIENTS.get(query.get("client_id", ""))
    if client is None:
        return pages.refusal("The client_id is unknown.")
    redirect_uri = query.get("redirect_uri", "")
    if not _may_redirect_to(redirect_uri):
        return pages.refusal("redirect_uri must be an https URL, or an http URL of a loopback host, with no fragment.")
    try:
        scopes = _check_request(client, query)
    except OAuthError as error:
        return _redirect(state, redirect_uri, query, error=error.code, error_description=error.description)
    host = urlsplit(redirect_uri).hostname or ""
    if request.method != "POST":
        return pages.consent(query=request.url.query, client_id=client.id, redirect_host=host, scopes=scopes)

    try:
        answer = parse_qsl((await read_body(request.receive, MAX_FORM_BYTES)).decode(), keep_blank_values=True)
    except (BodyTooLargeError, ValueError):
        return pages.refusal("The form is not readable.")
    form = dict(answer)
    if form.get("decision") != "allow":
        denied = {"error": "access_denied", "error_description": "The user denied access."}
        return _redirect(state, redirect_uri, query, **denied)
    company = form.get("company", "")
    ticked = [value for name, value in answer if name == "scope" and value in scopes]
    if company not in COMPANIES:
        return pages.refusal(f"company must be one of: {', '.join(COMPANIES)}.")
    if not ticked and "scopes_shown" in form:
        return pages.consent(
            query=request.url.query,
            client_id=client.id,
            redirect_host=host,
            scopes=scopes,
            company=company,
            problem="Tick at least one permission, or deny.",
        )
    code = grants.issue_code(
        state,
        client,
        company=company,
        scopes=tuple(dict.fromkeys(ticked)) or scopes,
        redirect_uri=redirect_uri,
        challenge=query.get("code_challenge"),
    )
    return _redirect(state, redirect_uri, query, code=code)


def _may_redirect_to(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.fragment or not uri.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def _check_request(client: Client, query: Mapping[str, str]) -> tuple[str, ...]:
    if query.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code.")
    if "authorization_code" not in client.grants:
        raise OAuthError("unauthorized_client", "This client may not use authorization codes.")
    if "code_challenge" in query and query.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "code_challenge_method must be S256.")
    return grants.parse_scopes(query.get("scope"))


def _redirect(state: State, redirect_uri: str, query: Mapping[str, str], **params: str) -> Response:
    if "state" in query:
        params["state"] = query["state"]
    if not state.settings.omit_iss:  # RFC 9207
        params["iss"] = WRONG_ISSUER if state.settings.wrong_iss else state.issuer
    parts = urlsplit(redirect_uri)
    joined = "&".join(filter(None, (parts.query, urlencode(params))))
    # 303, so that the browser does not post the form on to the client
    return RedirectResponse(urlunsplit(parts._replace(query=joined)), 303, {"cache-control": "no-store"})


class TokenEndpoint:
    """`POST /oauth/token`: counts, delays and faults around the real thing."""

    def __init__(self, state: State, inner: ASGIApp) -> None:
        self.state = state
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # the counters are replaced by a reset: what went up must come down on the new ones
        self.state.counters.in_flight_token_requests += 1
        counters = self.state.counters
        counters.max_in_flight_token_requests = max(
            counters.max_in_flight_token_requests, counters.in_flight_token_requests
        )
        try:
            await self._answer(scope, receive, send)
        finally:
            self.state.counters.in_flight_token_requests -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, MAX_FORM_BYTES)
        except BodyTooLargeError:
            too_large = OAuthError("invalid_request", f"The form is over {MAX_FORM_BYTES} bytes.")
            await _oauth_error(self.state, too_large, status=413)(scope, receive, send)
            return
        grant = dict(parse_qsl(body.decode(errors="replace"))).get("grant_type", "")
        self.state.counters.token_requests[grant if grant in _GRANTS else "other"] += 1
        if delay := self.state.settings.token_delay_ms:
            await asyncio.sleep(delay / 1000)
        receive = replay(body, receive)
        fault = take_fault(self.state, "token")
        if fault is None:
            await self.inner(scope, receive, send)
        else:
            await run_with_fault(fault, self.state, self.inner, scope, receive, send)


async def token(request: Request) -> Response:
    """Issue tokens (RFC 6749 §4.1.3, §4.4, §6)."""
    state = _state(request)
    try:
        form = await _read_form(request)
        client = _authenticate(request, form)
        issued = _grant(state, client, form)
    except OAuthError as error:
        state.counters.token_errors[error.code] += 1
        return _oauth_error(state, error)
    state.counters.token_ok += 1
    return _token_response(state, issued)


def _grant(state: State, client: Client, form: Mapping[str, str]) -> Issued:
    grant_type = _required(form, "grant_type")
    if grant_type not in _GRANTS:
        raise OAuthError("unsupported_grant_type", f"grant_type must be one of: {', '.join(_GRANTS)}.")
    if grant_type not in client.grants:
        raise OAuthError("unauthorized_client", f"This client may not use {grant_type}.")
    if grant_type == "client_credentials":
        return grants.client_credentials(state, client, form.get("scope"))
    if grant_type == "refresh_token":
        return grants.refresh(state, client, _required(form, "refresh_token"), form.get("scope"))
    code, redirect_uri = _required(form, "code"), _required(form, "redirect_uri")
    return grants.redeem_code(state, client, code, redirect_uri, form.get("code_verifier"))


def _required(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return form[name]


async def revoke(request: Request) -> Response:
    """Revoke a token (RFC 7009); an unknown one is answered like a known one."""
    state = _state(request)
    try:
        form = await _read_form(request)
        grants.revoke(state, _authenticate(request, form), _required(form, "token"))
    except OAuthError as error:
        return _oauth_error(state, error)
    return Response(status_code=200)


async def _read_form(request: Request) -> dict[str, str]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Content-Type must be application/x-www-form-urlencoded.")
    try:
        body = (await read_body(request.receive, MAX_FORM_BYTES)).decode()
        pairs = parse_qsl(body, keep_blank_values=True, errors="strict")
    except (BodyTooLargeError, ValueError):
        raise OAuthError("invalid_request", "The form is too long or not UTF-8.") from None
    form = dict(pairs)
    if len(form) != len(pairs):  # RFC 6749 §3.2
        raise OAuthError("invalid_request", "A parameter is repeated.")
    return form


def _authenticate(request: Request, form: Mapping[str, str]) -> Client:
    header = request.headers.get("authorization")
    if header is not None and "client_secret" in form:  # RFC 6749 §2.3
        raise OAuthError("invalid_request", "Authenticate the client in one way only.")
    if header is None:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    else:
        client_id, secret = _basic(header)
        if form.get("client_id", client_id) != client_id:
            raise OAuthError("invalid_request", "client_id differs from the one in the Authorization header.")
    client = CLIENTS.get(client_id)
    if client is None or client.secret != secret:
        raise OAuthError("invalid_client", "The client id or the client secret is wrong.")
    return client


def _basic(header: str) -> tuple[str, str]:
    """Read client credentials; both halves are form-encoded inside (RFC 6749 §2.3.1)."""
    scheme, _, value = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "The Authorization header is not a readable Basic one.")
    return unquote_plus(user), unquote_plus(password)


def _token_response(state: State, issued: Issued) -> Response:
    settings = state.settings
    body: dict[str, str | int] = {"access_token": issued.access_token, "token_type": settings.token_type}
    if not settings.omit_expires_in:
        ttl = settings.access_token_ttl
        body["expires_in"] = str(ttl) if settings.expires_in_as_string else ttl
    if issued.refresh_token is not None:
        body["refresh_token"] = issued.refresh_token
    body["scope"] = " ".join(issued.scopes)
    return _render(state, body, 200, {})


def _oauth_error(state: State, error: OAuthError, status: int = 400) -> Response:
    body: dict[str, str | int] = {"error": error.code, "error_description": error.description}
    if state.settings.error_200:
        return _render(state, {"ok": False, **body}, 200, {})
    if error.code == "invalid_client":  # RFC 6749 §5.2
        return _render(state, body, 401, {"www-authenticate": 'Basic realm="Mooring sandbox"'})
    return _render(state, body, status, {})


def _render(state: State, body: Mapping[str, str | int], status: int, headers: dict[str, str]) -> Response:
    headers |= {"cache-control": "no-store", "pragma": "no-cache"}
    if not state.settings.form_encoded_tokens:
        return json_response(body, status, headers)
    plain = {name: str(value).lower() if isinstance(value, bool) else value for name, value in body.items()}
    return Response(urlencode(plain), status, headers, media_type="application/x-www-form-urlencoded")
