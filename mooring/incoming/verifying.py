"""Whether a request comes from whom it says. Pure. Nothing of a body is read before this has said yes (rule P12)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mooring import errors
from mooring.connectors.definition import Events, EventSignature
from mooring.protocol.expressions import UNDEFINED, Expression, ExpressionError, to_text
from mooring.protocol.template import Template

TOLERANCE: Final = 300.0  # seconds; Standard Webhooks


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: header names in lower case, the address as the provider knows it."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)

    def scope(self, body: Any = None) -> dict[str, Any]:
        """What expressions see."""
        return {
            "method": self.method,
            "url": self.url,
            "headers": dict(self.headers),
            "query": dict(self.query),
            "body": body,
        }


def verify(events: Events, secret: str | None, request: Received, now: float) -> None:
    """Raise Unauthorized, with the same words whatever is wrong, unless the request proves to know the secret.

    `now` is in seconds since 1970. Every comparison takes the same time wherever texts differ.
    """
    if not events.needs_secret:
        return  # the address was the secret
    if secret is None or not _proven(events, secret, request, now):
        raise errors.Unauthorized(
            "the request does not prove that the provider sent it",
            code="IncomingSignatureError",
            hint="The endpoint's secret here and at the provider must be the same, and the clocks too.",
        )


def _proven(events: Events, secret: str, request: Received, now: float) -> bool:
    if events.token_header is not None:
        return _same(request.headers.get(events.token_header, ""), secret)
    if events.token_query is not None:
        return _same(request.query.get(events.token_query, ""), secret)
    if events.token_basic:
        return _same(_password(request.headers.get("authorization", "")), secret)
    if events.standard_webhooks:
        return _standard(secret, request, now)
    assert events.signature is not None
    return _signed(events.signature, secret, request, now)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _password(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _standard(secret: str, request: Received, now: float) -> bool:
    """Standard Webhooks 1.0.0, the symmetric scheme `v1`."""
    id, at = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    if not id or not _fresh(at, TOLERANCE, now):
        return False
    key = _key(secret.removeprefix("whsec_"), "base64")
    message = f"{id}.{at}.".encode() + request.body
    wanted = base64.b64encode(hmac.digest(key, message, "sha256")).decode() if key else ""
    given = [part.partition(",")[2] for part in request.headers.get("webhook-signature", "").split()[:20]]
    return bool(wanted) and any(_same(one, wanted) for one in given)


def _signed(how: EventSignature, secret: str, request: Received, now: float) -> bool:
    value = request.headers.get(how.header, "")
    given = [value]
    at: str | None = None
    if how.part is not None:
        parts = [tuple(p.strip() for p in item.partition("=")[::2]) for item in value.split(",")[:40]]
        given = [text for name, text in parts if name == how.part]
        if how.timestamp_part is not None:
            at = next((text for name, text in parts if name == how.timestamp_part), "")
    scope = request.scope()
    if how.timestamp is not None:
        at = _text(how.timestamp, scope)
    if (how.timestamp is not None or how.timestamp_part is not None) and not _fresh(at or "", how.tolerance, now):
        return False
    key = _key(secret, how.secret_encoding)
    message = _message(how.signed, {**scope, "timestamp": at}, request.body)
    if not key or message is None:
        return False
    mac = hmac.digest(key, message, how.algorithm)
    wanted = how.prefix + (mac.hex() if how.encoding == "hex" else base64.b64encode(mac).decode())
    fits = [_same(text.lower() if how.encoding == "hex" else text, wanted) for text in given]
    return any(fits)


def _key(secret: str, encoding: str) -> bytes:
    try:
        if encoding == "hex":
            return bytes.fromhex(secret)
        return base64.b64decode(secret, validate=True) if encoding == "base64" else secret.encode()
    except (ValueError, binascii.Error):
        return b""


def _fresh(at: str, tolerance: float, now: float) -> bool:
    return (moment := moment_of(at)) is not None and abs(now - moment) <= tolerance


def moment_of(text: str) -> float | None:
    """Seconds since 1970 of a time in seconds, milliseconds or RFC 3339; None for anything else."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 13:
        return int(text) / (1000 if len(text) > 11 else 1)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def _message(template: Template, scope: Mapping[str, Any], body: bytes) -> bytes | None:
    """What is signed, byte for byte: the body is put in as it came, never through a text."""
    out = bytearray()
    for part in template.parts:
        if isinstance(part, str):
            out += part.encode()
        elif part.source.strip() == "body":
            out += body
        else:
            value = _evaluated(part, scope)
            if value is None:
                return None
            out += value.encode()
    return bytes(out)


def _evaluated(part: Expression, scope: Mapping[str, Any]) -> str | None:
    try:
        value = part.evaluate(scope)
    except ExpressionError:
        return None
    return None if value is UNDEFINED or value is None else value if isinstance(value, str) else to_text(value)


def _text(template: Template, scope: Mapping[str, Any]) -> str:
    try:
        value = template.value(scope)
    except ExpressionError:
        return ""
    return "" if value is UNDEFINED or value is None else value if isinstance(value, str) else to_text(value)


def text_of(template: Template | None, scope: Mapping[str, Any]) -> str:
    """What a template of `events` gives, as text; empty where it gives nothing."""
    return _text(template, scope) if template is not None else ""


def fingerprint(id: str, body: bytes) -> bytes:
    """By what a repetition is known: the provider's id of the delivery, or where it gives none, the whole body."""
    return hashlib.sha256(b"id:" + id.encode() if id else b"body:" + body).digest()
