"""Ask a token endpoint for a token, or tell it to revoke one. The only place that speaks to token endpoints."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson

from mooring import errors
from mooring.accounts import credentials, diagnosing
from mooring.accounts.credentials import Secrets
from mooring.auth_configs.service import OpenConfig
from mooring.connectors.apply import identity_of, own_request, render_map
from mooring.connectors.definition import Assertion, OAuth2, RequestTemplate
from mooring.kit import clock, ids
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure, OutboundRequest
from mooring.protocol import oauth2 as messages
from mooring.protocol import saml
from mooring.protocol.exchange import Exchange
from mooring.protocol.expressions import UNDEFINED
from mooring.protocol.login import parse_login_answer
from mooring.protocol.redact import clean_line, redact_text
from mooring.protocol.template import Template, Unresolved

TOKEN_DEADLINE = 8.0  # seconds in total, slow bodies included (rule R10)
TOKEN_MAX_BYTES = 1 << 20  # rule O10
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_INCOMPLETE = {"cause": "setup_incomplete"}
_SECRET_PARAMS = ("refresh_token", "code", "code_verifier", "assertion")
_SECRET_FIELDS = ("client_secret", "private_key", "access_token")


class Sender(Protocol):
    """What carries a token request: the HTTP client itself, or the courier."""

    async def send(self, request: OutboundRequest, *, deadline: float, max_bytes: int = ...) -> BufferedResponse:
        """Send a request and read the whole answer. Raises HttpFailure."""


async def request_token(
    sender: Sender,
    config: OpenConfig,
    scope: Mapping[str, Any],
    params: Mapping[str, str],
    *,
    refreshing: bool = False,
) -> messages.TokenAnswer:
    """Send one token request and read its answer.

    Raises TokenRefused, TokenNonsense (see `protocol.oauth2`) or HttpFailure, whose `sent` tells whether the provider may
    have seen the request.
    """
    oauth2 = _oauth2(config)
    if oauth2.login is not None:
        return await _log_in(sender, config, oauth2.login, scope)
    template = oauth2.refresh_url if refreshing and oauth2.refresh_url else oauth2.token_url
    url = render_url(template, scope)
    # The connector's own parameters win: some providers want another grant_type than the flow's name says.
    body_params = {**params, **render_map(oauth2.token_params, scope)}
    headers, body = _request(config, scope, url, body_params)
    request = OutboundRequest("POST", url, headers, body, identity=identity_of(config.method, scope))
    return read_token_answer(config, scope, body_params, await _send(sender, request), request=request)


async def _log_in(
    sender: Sender, config: OpenConfig, login: RequestTemplate, scope: Mapping[str, Any]
) -> messages.TokenAnswer:
    own = own_request(login, scope, base_url=_token_url(config, scope).rstrip("/"))
    request = OutboundRequest(own.method, own.url, own.headers, own.body, identity=identity_of(config.method, scope))
    return read_token_answer(config, scope, {}, await _send(sender, request), request=request)


async def logged_in(
    sender: Sender, config: OpenConfig, scope: Mapping[str, Any], answer: messages.TokenAnswer
) -> messages.TokenAnswer:
    """The answer with what the login after the token gives, where the provider has one (`then`).

    Raises TokenRefused or TokenNonsense as a token request does, and HttpFailure.
    """
    step = _oauth2(config).then
    if step is None:
        return answer
    kept = credentials.with_token(Secrets(), _oauth2(config), answer).kept
    values = {**scope, **kept, "access_token": answer.access_token}
    own = own_request(step.request, values, base_url="")
    request = OutboundRequest(own.method, own.url, own.headers, own.body, identity=identity_of(config.method, scope))
    response = await _send(sender, request)
    sent = [*hidden_values(config, scope, {}), answer.access_token]
    fault: messages.TokenRefused | messages.TokenNonsense | None = None
    data = None
    with contextlib.suppress(ValueError):
        data = orjson.loads(response.body)
    if not 200 <= response.status < 300:
        told = data if isinstance(data, dict) else {}
        words = next((str(told[name]) for name in ("message", "errorMessage", "error") if told.get(name)), "")
        text = redact_text(clean_line(words or f"the login after the token was answered with {response.status}"), sent)
        if response.status >= 500 or response.status == 429:
            fault = messages.TokenNonsense(text, response.status, transient=True, kind="unavailable")
        else:
            fault = messages.TokenRefused("login_refused", text, response.status)
    picked = {name: _picked(where, data, values) for name, where in step.keep.items()}
    if fault is None and (missing := [name for name, value in picked.items() if value is None]):
        fault = messages.TokenNonsense(
            f"the login after the token gave no {missing[0]}", response.status, transient=False, kind="no_token"
        )
    if fault is not None:
        fault.exchange = diagnosing.seen(request, response, sent)
        raise fault
    return replace(answer, login=picked)


def _picked(where: str | Template, data: Any, scope: Mapping[str, Any]) -> Any:
    """The value of an answer at a dotted path, or what a template makes of it; None where there is none."""
    if isinstance(where, str):
        return messages.dig(data, where)
    found = where.value({**scope, "response": {"body": data}})
    return None if found is UNDEFINED or found == "" else found


async def _send(sender: Sender, request: OutboundRequest) -> BufferedResponse:
    try:
        return await sender.send(request, deadline=TOKEN_DEADLINE, max_bytes=TOKEN_MAX_BYTES)
    except ValueError as e:  # a header that the connector renders from a field; the message holds no value
        raise errors.Unprocessable(f"the token request can't be sent: {e}", extra=_INCOMPLETE) from None


def machine_params(oauth2: OAuth2, config: OpenConfig, scope: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a request for client credentials (RFC 6749 §4.4.2) or by a signed assertion (RFC 7522, RFC 7523).

    A login has none but its own. Raises Unprocessable when the assertion can't be made.
    """
    if oauth2.login is not None:
        return {}
    if oauth2.assertion is not None:
        if oauth2.grant == "saml_bearer":
            params = {"grant_type": saml.GRANT, "assertion": _saml(oauth2, oauth2.assertion, scope)}
        else:
            params = {"grant_type": JWT_BEARER, "assertion": _assertion(oauth2, oauth2.assertion, config, scope)}
        if config.scopes and not oauth2.assertion.holds_scopes:
            params["scope"] = oauth2.scope_separator.join(config.scopes_for(scope))
        return params
    params = {"grant_type": "client_credentials"}
    if config.scopes:
        params["scope"] = oauth2.scope_separator.join(config.scopes_for(scope))
    return params


def _assertion(oauth2: OAuth2, spec: Assertion, config: OpenConfig, scope: Mapping[str, Any]) -> str:
    issuer = render_url(spec.issuer, scope)
    now = int(clock.now().timestamp())
    claims: dict[str, Any] = {
        **render_map(spec.claims, scope),
        "iss": issuer,
        "sub": render_url(spec.subject, scope) if spec.subject else issuer,
        "aud": render_url(spec.audience if spec.audience is not None else oauth2.token_url, scope),
        "iat": now,
        "exp": now + spec.lifetime_seconds,
        "jti": ids.random_uuid(),
    }
    if spec.holds_scopes and config.scopes:
        claims["scope"] = oauth2.scope_separator.join(config.scopes_for(scope))
    return _sign(claims, spec.algorithm, scope)


def _saml(oauth2: OAuth2, spec: Assertion, scope: Mapping[str, Any]) -> str:
    issuer = render_url(spec.issuer, scope)
    endpoint = render_url(oauth2.token_url, scope)
    try:
        signed = saml.assertion(
            issuer=issuer,
            subject=render_url(spec.subject, scope) if spec.subject else issuer,
            audience=render_url(spec.audience, scope) if spec.audience is not None else endpoint,
            recipient=endpoint,
            private_key=str(scope.get("private_key") or ""),
            id=f"_{ids.random_uuid()}",  # an XML name begins with no digit
            now=clock.now(),
            lifetime=timedelta(seconds=spec.lifetime_seconds),
            attributes=render_map(spec.claims, scope),
        )
    except ValueError as e:
        raise errors.Unprocessable(str(e), extra=_INCOMPLETE) from None
    if spec.encoding == "base64":
        return base64.b64encode(signed).decode()
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def _sign(claims: Mapping[str, Any], algorithm: str, scope: Mapping[str, Any]) -> str:
    try:
        return messages.signed(claims, str(scope.get("private_key") or ""), algorithm, scope.get("key_id"))
    except ValueError as e:
        raise errors.Unprocessable(str(e), extra=_INCOMPLETE) from None


async def push_request(
    sender: Sender, config: OpenConfig, scope: Mapping[str, Any], url: str, params: Mapping[str, str]
) -> str:
    """Push an authorization request to its provider (RFC 9126 §2). Returns the `request_uri`, which is good once.

    Raises TokenRefused, TokenNonsense or HttpFailure as a token request does.
    """
    headers, body = _request(config, scope, url, params, form=True)
    request = OutboundRequest("POST", url, headers, body, identity=identity_of(config.method, scope))
    response = await _send(sender, request)
    try:
        return messages.parse_pushed_answer(
            response.status,
            response.header("content-type"),
            response.body,
            retry_after=response.header("retry-after"),
        )
    except (messages.TokenRefused, messages.TokenNonsense) as e:
        raise _hidden(e, request, response, hidden_values(config, scope, params)) from None


def read_token_answer(
    config: OpenConfig,
    scope: Mapping[str, Any],
    params: Mapping[str, str],
    response: BufferedResponse,
    *,
    request: OutboundRequest | None = None,
) -> messages.TokenAnswer:
    """Read the answer to a token request with these parameters. Raises TokenRefused or TokenNonsense.

    The error carries the redacted exchange. `request` is unknown for an answer that the courier kept.
    """
    oauth2 = _oauth2(config)
    retry_after = response.header("retry-after")
    try:
        if oauth2.login is not None:
            return parse_login_answer(
                response.status, response.body, token_path=oauth2.token_path[0], retry_after=retry_after
            )
        return messages.parse_token_answer(
            response.status,
            response.header("content-type"),
            response.body,
            token_format=oauth2.token_format,
            token_path=oauth2.token_path,
            refresh_token_path=oauth2.refresh_token_path,
            token_types=oauth2.token_types,
            retry_after=retry_after,
        )
    except (messages.TokenRefused, messages.TokenNonsense) as e:
        asked = request or OutboundRequest("POST", _token_url(config, scope))
        raise _hidden(e, asked, response, hidden_values(config, scope, params)) from None


def _hidden(
    error: messages.TokenRefused | messages.TokenNonsense,
    request: OutboundRequest,
    response: BufferedResponse,
    sent: list[str],
) -> messages.TokenRefused | messages.TokenNonsense:
    """The error with its exchange, without what was sent: some providers repeat what they refuse, and this is shown."""
    if isinstance(error, messages.TokenRefused):
        words = redact_text(error.description, sent) if error.description else None
        error = messages.TokenRefused(redact_text(error.error, sent), words, error.status)
    error.exchange = diagnosing.seen(request, response, sent)
    return error


def hidden_values(config: OpenConfig, scope: Mapping[str, Any], params: Mapping[str, str]) -> list[str]:
    """Every secret that a token request may hold."""
    fields = (*config.method.fields, *config.method.app_fields)
    names = {*_SECRET_FIELDS, *(f.key for f in fields if f.secret)}
    sent = [params[name] for name in _SECRET_PARAMS if name in params]
    return sent + [str(scope[name]) for name in names if scope.get(name)]


def unanswered(
    config: OpenConfig, scope: Mapping[str, Any], failure: HttpFailure, *, url: str | None = None
) -> Exchange:
    """Record a request to the token endpoint, or to another `url`, that got no answer."""
    request = OutboundRequest("POST", url or _token_url(config, scope))
    return diagnosing.unseen(request, failure, hidden_values(config, scope, {}))


def _token_url(config: OpenConfig, scope: Mapping[str, Any]) -> str:
    return render_url(_oauth2(config).token_url, scope)


async def revoke(http: HttpClient, config: OpenConfig, scope: Mapping[str, Any], token: str, hint: str) -> bool:
    """Revoke a token at the provider (RFC 7009 §2). True when the provider has no more use for it; raises HttpFailure."""
    oauth2 = _oauth2(config)
    if oauth2.revoke_url is None:
        return True
    url = render_url(oauth2.revoke_url, scope)
    headers, body = _request(config, scope, url, {"token": token, "token_type_hint": hint}, form=True)
    response = await http.send(
        OutboundRequest("POST", url, headers, body, identity=identity_of(config.method, scope)), deadline=TOKEN_DEADLINE
    )
    return 200 <= response.status < 300 or response.status == 404


def render_url(template: Template, scope: Mapping[str, Any]) -> str:
    """Render an endpoint's URL. Raises Unprocessable naming the missing field."""
    try:
        return template.render(scope)
    except Unresolved as e:
        raise errors.Unprocessable(f"a field that the connector needs is missing: {e}", extra=_INCOMPLETE) from None


def _oauth2(config: OpenConfig) -> OAuth2:
    if config.method.oauth2 is None:
        raise errors.Unprocessable(f"the auth method {config.method.key!r} is not OAuth 2.0")
    return config.method.oauth2


def _request(
    config: OpenConfig, scope: Mapping[str, Any], url: str, params: Mapping[str, str], *, form: bool = False
) -> tuple[list[tuple[str, str]], bytes]:
    oauth2 = _oauth2(config)
    client_id = scope.get("client_id") or None
    if not isinstance(client_id, str) and not (oauth2.assertion is not None and oauth2.client_auth == "none"):
        raise errors.Unprocessable(
            "the client id is missing", hint="Set setup.client_id of the auth config.", extra=_INCOMPLETE
        )
    assertion = None
    if oauth2.client_auth in {"private_key_jwt", "client_secret_jwt"}:
        assert isinstance(client_id, str)
        shared = oauth2.client_auth == "client_secret_jwt"
        key_field = "client_secret" if shared else "private_key"
        try:
            assertion = messages.client_assertion(
                client_id=client_id,
                # The issuer as sole audience where it is known ("audience injection"), else exactly the endpoint (O17).
                audience=render_url(oauth2.issuer, scope) if oauth2.issuer else url,
                private_key=str(scope.get(key_field) or ""),
                algorithm="HS256" if shared else oauth2.assertion_algorithm,
                jti=ids.random_uuid(),
                now=int(clock.now().timestamp()),
                key_id=scope.get("key_id"),
            )
        except ValueError as e:
            raise errors.Unprocessable(
                str(e), hint=f"Set setup.{key_field} of the auth config.", extra=_INCOMPLETE
            ) from None
    secret = scope.get("client_secret")
    return messages.token_request(
        params,
        client_id=client_id,
        client_secret=secret if isinstance(secret, str) else None,
        client_auth=oauth2.client_auth,
        body_format="form" if form else oauth2.token_body,
        headers=render_map(oauth2.token_headers, scope),
        assertion=assertion,
    )
