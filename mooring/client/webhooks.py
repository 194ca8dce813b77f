"""Check that a webhook comes from the hub."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final

TOLERANCE: Final = 300  # seconds between the signature's time and now (Standard Webhooks)


class BadSignature(Exception):
    """The message is not the hub's, or too old."""


def verify_webhook(body: bytes, headers: Mapping[str, str], secret: str, *, now: float | None = None) -> dict[str, Any]:
    """The event of a request whose signature is right. Give the bytes as they arrived.

    `webhook-signature` (Standard Webhooks) is checked where it is there, else `x-stackone-signature`, which has no time and
    so does not stop replays. Raises BadSignature.
    """
    given = {name.lower(): value for name, value in headers.items()}
    if "webhook-signature" in given:
        _standard(body, given, secret, time.time() if now is None else now)
    elif "x-stackone-signature" in given:
        mac = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        expected = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        if not hmac.compare_digest(expected.encode(), given["x-stackone-signature"].encode()):
            raise BadSignature("the signature does not fit the body")
    else:
        raise BadSignature("the request has no signature")
    event: dict[str, Any] = json.loads(body)
    return event


def _standard(body: bytes, given: Mapping[str, str], secret: str, now: float) -> None:
    moment = given.get("webhook-timestamp", "")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 16) or abs(now - int(moment)) > TOLERANCE:
        raise BadSignature("the signature is too old, or from the future")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"))
    except ValueError:
        raise BadSignature("the secret is none of the hub's: it begins with whsec_") from None
    text = f"{given.get('webhook-id', '')}.{moment}.".encode() + body
    expected = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    for signature in given["webhook-signature"].split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(expected.encode(), value.encode()):
            return
    raise BadSignature("the signature does not fit the body")
