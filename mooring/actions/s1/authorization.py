"""The credential of a step of a `.s1.yaml` action: the account's own, or what the step has instead of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mooring import errors
from mooring.actions.s1.values import fill
from mooring.connectors.apply import Injection, Signer, basic, client_identity
from mooring.connectors.s1.program import HttpStep
from mooring.protocol.expressions import UNDEFINED


def authorized(step: HttpStep, scope: Mapping[str, Any], injection: Injection) -> Injection:
    """The connector's own credential, or what the step has instead of it, and the step's client certificate."""
    found = _authorized(step.authorization, scope, injection)
    if step.certificates is None:
        return found
    pair = fill(list(step.certificates), scope)
    if len(pair) != 2 or not all(isinstance(text, str) and text for text in pair):
        raise errors.Unprocessable("a step needs a client certificate and its key, and the account lacks one of them")
    return replace(found, identity=client_identity(*pair))


def _authorized(own: Mapping[str, Any] | None, scope: Mapping[str, Any], injection: Injection) -> Injection:
    if own is None:
        return injection
    given = fill(own, scope)
    headers: list[tuple[bytes, bytes]] = []
    query: list[tuple[str, str]] = []
    kind = given.get("type")
    if kind == "basic":
        value = basic(str(given.get("username") or ""), str(given.get("password") or ""))
        headers.append((b"authorization", _line(value)))
    elif kind in ("bearer", "oauth2"):
        token = given.get("token")
        if not isinstance(token, str) or not token:
            raise errors.Unprocessable("the authorization of a step has no token")
        headers.append((b"authorization", _line(token if given.get("includeBearer") is False else f"Bearer {token}")))
    elif kind in ("apiKey", "apikey", "api_key"):
        name, value = str(given.get("key") or given.get("name") or ""), str(given.get("value") or "")
        if given.get("in") == "query":
            query.append((name, value))
        else:
            headers.append((name.lower().encode(), _line(value)))
    elif kind not in (None, "none"):
        raise errors.Unprocessable(f"there is no authorization of the type {str(kind)[:40]!r}")
    signature = _signer(own.get("signing"), given.get("signing"))
    return Injection(injection.base_url, headers, query, signature=signature, identity=injection.identity)


def _signer(wanted: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> Signer | None:
    """Signs as a step says, with the account's values."""
    if wanted is None or given is None:
        return None
    values = given["values"]
    if missing := [name for name in wanted["values"] if values.get(name) in (UNDEFINED, None, "")]:
        raise errors.Unprocessable(f"the signature of a step has no {missing[0]}")
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return Signer(given["algorithm"], texts)


def _line(value: str) -> bytes:
    if any(c in value for c in "\r\n\0"):
        raise errors.Unprocessable("a value of the credential holds a line break")
    return value.encode()
