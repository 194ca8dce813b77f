"""Test a credential at the provider before it is saved, and name the cause when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mooring import errors
from mooring.accounts import diagnosing
from mooring.connectors.apply import default_headers, inject, own_request
from mooring.connectors.definition import AuthMethod, Connector
from mooring.diagnosis.evidence import diagnosis
from mooring.diagnosis.typed import stray_spaces
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure, OutboundRequest
from mooring.protocol.headers import outbound, raw
from mooring.protocol.oauth2 import dig
from mooring.protocol.redact import clean_line

TEST_DEADLINE = 15.0  # seconds in total


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
        if spaced := stray_spaces(typed):  # a line break inside a value can't even be sent
            raise diagnosing.refusal(connector, diagnosis("stray_spaces", names=spaced)) from None
        raise
    if method.test is None:
        return Identity()
    own = own_request(
        method.test.request,
        scope,
        base_url=injection.base_url,
        defaults=default_headers(connector, scope),
        query=injection.query,
        into=injection.body,
    )
    outgoing = outbound(raw(own.headers), injection.headers)
    if injection.signature is not None:
        outgoing = injection.signature.sign(own.method, own.url, outgoing, own.body or b"")
    request = OutboundRequest(own.method, own.url, raw_headers=outgoing, body=own.body, identity=injection.identity)
    hidden = (*secrets, *(value for name, value in injection.query))
    try:
        response = await http.send(request, deadline=TEST_DEADLINE, max_bytes=4 << 20)
    except HttpFailure as e:
        found = diagnosing.of_failure(e, "credential_test", diagnosing.unseen(request, e, hidden), typed)
        raise diagnosing.refusal(connector, found) from None
    accepted, refused = _is_accepted(response, method), _is_refused(response, method)
    if accepted and not refused and not _proves_nothing(response, method):
        return _identity(response, method)
    exchange = diagnosing.seen(request, response, hidden)
    found = diagnosing.of_answer(
        connector, method, response, exchange=exchange, typed=typed, accepted=accepted, refused=refused
    )
    raise diagnosing.refusal(connector, found)


def _is_accepted(response: BufferedResponse, method: AuthMethod) -> bool:
    assert method.test is not None
    return response.status in method.test.ok if method.test.ok else 200 <= response.status < 300


def _is_refused(response: BufferedResponse, method: AuthMethod) -> bool:
    """Whether the body says no, whatever the status."""
    assert method.test is not None
    return bool(method.test.fail_when) and any(dig(_json(response), path) for path in method.test.fail_when)


def _proves_nothing(response: BufferedResponse, method: AuthMethod) -> bool:
    """Whether a good status carries a page, or half an answer."""
    assert method.test is not None
    data = _json(response)
    if (response.header("content-type") or "").lower().startswith("text/html"):
        return True  # a login page or a captive portal, not the API
    return bool(method.test.identity) and dig(data, str(method.test.identity)) is None and _tells_error(data)


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
