"""Test a credential at the provider before it is saved, and name the cause when it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from mooring import errors
from mooring.connectors.apply import default_headers, inject, request_parts
from mooring.connectors.definition import AuthMethod, Connector
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure, OutboundRequest
from mooring.protocol.headers import outbound, raw
from mooring.protocol.oauth2 import TokenNonsense, TokenRefused, dig, parse_retry_after
from mooring.protocol.redact import clean_line, redact_text
from mooring.protocol.urls import join_path

TEST_DEADLINE = 15.0  # seconds in total

CAUSES: Final[dict[str, str]] = {
    "stray_spaces": "A value holds spaces or line breaks that were probably copied along.",
    "wrong_credentials": "The provider does not accept these credentials.",
    "missing_scope": "The credentials are good, but lack a permission that this connection needs.",
    "wrong_host": "There is no such system at this address.",
    "unreachable": "The provider could not be reached.",
    "rate_limited": "The provider is limiting requests at the moment.",
    "provider_error": "The provider answered with an error of its own.",
    "client_rejected": "The provider does not accept the client id or client secret of this configuration.",
    "grant_refused": "The provider refused to issue a token.",
}
"""Cause → what it means, in plain words. The causes are stable; programs may compare them."""

_HINTS: Final[dict[str, str]] = {
    "stray_spaces": "Copy the value again without anything before, after or inside it.",
    "wrong_credentials": "Check that the value is complete and still valid; if in doubt make a new one and enter it here.",
    "missing_scope": "Enable the permissions that the connection guide lists, save them at the provider, and try again.",
    "wrong_host": "Check the address or subdomain.",
    "unreachable": "Check the address; if it is right, the provider may be down. Try again later.",
    "rate_limited": "Wait a minute and try again.",
    "provider_error": "Try again later; if it stays, contact the provider's support.",
    "client_rejected": "The operator must check client id, client secret and their expiry in the auth config.",
    "grant_refused": "Check client id, client secret and the requested scopes.",
}

_SUSPICIOUS = re.compile(r"[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060\ufeff]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which upstream account a credential belongs to, as the test answer tells."""

    id: str | None = None
    label: str | None = None


async def test_credential(
    http: HttpClient,
    connector: Connector,
    method: AuthMethod,
    scope: Mapping[str, Any],
    *,
    typed: Mapping[str, str],
    secrets: tuple[str, ...],
) -> Identity:
    """Send the connector's test request. Raises CredentialRejected with a cause; returns whose credential it is.

    `typed` are the values as a person entered them (to find stray spaces), `secrets` what must not show in a message.
    """
    try:
        injection = inject(method, scope)
    except errors.Unprocessable:
        if stray_spaces(typed):  # a line break inside a value can't even be sent
            raise rejected("stray_spaces", connector, typed) from None
        raise
    if method.test is None:
        return Identity()
    url, query, headers, body = request_parts(method.test.request, scope)
    path, _, own_query = url.partition("?")
    full_query = "&".join(filter(None, [own_query, urlencode({**query, **dict(injection.query)})]))
    if url.startswith(("https://", "http://")):
        target = path + ("?" + full_query if full_query else "")
    else:
        target = join_path(injection.base_url, path, full_query)
    sent = list(default_headers(connector, scope)) + list(headers.items())
    payload: bytes | None = None
    if body is not None:
        payload = body.encode() if isinstance(body, str) else orjson.dumps(body)
        if not any(k.lower() == "content-type" for k, _ in sent):
            sent.append(("content-type", "application/json"))
    if not any(k.lower() == "accept" for k, _ in sent):
        sent.append(("accept", "application/json"))
    outgoing = outbound(raw(sent), injection.headers)
    request = OutboundRequest(method.test.request.method, target, raw_headers=outgoing, body=payload)
    try:
        response = await http.send(request, deadline=TEST_DEADLINE, max_bytes=4 << 20)
    except HttpFailure as e:
        raise explain_failure(e, connector, typed) from None
    _judge(response, connector, method, typed, secrets)
    return _identity(response, method)


def explain_failure(e: HttpFailure, connector: Connector, typed: Mapping[str, str]) -> errors.CredentialRejected:
    """Turn a failed exchange into a cause."""
    if e.kind == "blocked":
        return rejected("wrong_host", connector, typed, detail=str(e))
    if e.kind in {"dns", "tls"}:
        return rejected("wrong_host", connector, typed, detail=str(e))
    return rejected("unreachable", connector, typed, detail=str(e))


def explain_token_error(
    e: TokenRefused | TokenNonsense, connector: Connector, typed: Mapping[str, str]
) -> errors.CredentialRejected:
    """Turn a refused token request into a cause."""
    if isinstance(e, TokenNonsense):
        cause = "rate_limited" if e.status == 429 else "provider_error" if e.transient else "wrong_host"
        return rejected(cause, connector, typed, detail=e.reason, provider_status=e.status, retry_after=e.retry_after)
    cause = {
        "invalid_client": "client_rejected",
        "unauthorized_client": "client_rejected",
        "invalid_scope": "missing_scope",
        "invalid_grant": "grant_refused",
        "access_denied": "grant_refused",
    }.get(e.error, "client_rejected" if e.status == 401 else "grant_refused")
    return rejected(cause, connector, typed, detail=str(e), provider_status=e.status)


def rejected(
    cause: str,
    connector: Connector,
    typed: Mapping[str, str],
    *,
    detail: str | None = None,
    provider_status: int | None = None,
    retry_after: float | None = None,
) -> errors.CredentialRejected:
    """The refusal for a cause. A value with odd white space is the likelier cause of a refused credential."""
    if cause in {"wrong_credentials", "client_rejected", "grant_refused", "wrong_host"} and stray_spaces(typed):
        cause = "stray_spaces"
    message = f"{connector.title}: {CAUSES[cause]}"
    hint = _HINTS[cause]
    if cause == "stray_spaces":
        hint = f"{hint} Field: {', '.join(stray_spaces(typed))}."
    extra: dict[str, Any] = {"cause": cause}
    if detail or provider_status:
        extra["provider_response"] = {"status": provider_status, "message": detail}
        if retry_after is not None:
            extra["provider_response"]["retry_after"] = round(retry_after)
    return errors.CredentialRejected(message, hint=hint, extra=extra)


def stray_spaces(typed: Mapping[str, str]) -> list[str]:
    """Keys of typed values with white space or invisible characters in them. Sentences are left alone."""
    return [
        key
        for key, value in typed.items()
        if _SUSPICIOUS.search(value) and "-----BEGIN" not in value and key not in {"username", "password", "name"}
    ]


def _judge(
    response: BufferedResponse,
    connector: Connector,
    method: AuthMethod,
    typed: Mapping[str, str],
    secrets: tuple[str, ...],
) -> None:
    assert method.test is not None
    status = response.status
    accepted = status in method.test.ok if method.test.ok else 200 <= status < 300
    html = (response.header("content-type") or "").lower().startswith("text/html")
    data = _json(response)
    detail = _excerpt(response, secrets)
    cause = None
    if accepted:
        if any(dig(data, path) for path in method.test.fail_when):
            cause = "wrong_credentials"
        elif html:
            cause = "wrong_host"  # a login page or a captive portal, not the API
        elif method.test.identity and dig(data, method.test.identity) is None and _tells_error(data):
            cause = "provider_error"  # 200 with an error inside, or with half an answer: it proves nothing
        else:
            return
    elif status == 401:
        cause = "wrong_credentials"
    elif status == 403:
        cause = "missing_scope"
    elif status == 429:
        cause = "rate_limited"
    elif status in {404, 410} or 300 <= status < 400:
        cause = "wrong_host"
    elif status >= 500:
        cause = "provider_error"
    else:
        cause = "wrong_credentials" if status in {400, 402, 407, 422} else "provider_error"
    wait = parse_retry_after(response.header("retry-after")) if cause == "rate_limited" else None
    raise rejected(cause, connector, typed, detail=detail, provider_status=status, retry_after=wait)


def _tells_error(data: Any) -> bool:
    """Whether a good status carries a bad answer: no JSON object, or one that speaks of an error."""
    if not isinstance(data, dict):
        return True
    return bool(data.get("error") or data.get("errors")) or data.get("ok") is False or data.get("success") is False


def _identity(response: BufferedResponse, method: AuthMethod) -> Identity:
    test = method.test
    if test is None or test.identity is None:
        return Identity()
    data = _json(response)
    id, label = dig(data, test.identity), dig(data, test.identity_label) if test.identity_label else None
    return Identity(
        clean_line(str(id), 300) if id is not None and not isinstance(id, dict | list) else None,
        clean_line(str(label), 300) if label is not None and not isinstance(label, dict | list) else None,
    )


def _json(response: BufferedResponse) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _excerpt(response: BufferedResponse, secrets: tuple[str, ...]) -> str:
    """A short, safe part of a provider's answer: no markup, no secret, one line."""
    text = response.body[:2000].decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        text = re.sub(r"<(script|style)\b.*?(</\1>|$)|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return clean_line(redact_text(text, secrets), 300)
