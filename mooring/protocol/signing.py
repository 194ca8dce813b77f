"""Sign webhook messages: Standard Webhooks 1.0.0, and the older header of contract §7.

The two take different bytes of one secret as the HMAC key, because their published verifiers do: Standard Webhooks the
base64-decoded part behind `whsec_`, `x-stackone-signature` the secret as it was shown, prefix included.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = 32  # Standard Webhooks asks for 24 to 64

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"
STACKONE_SIGNATURE = "x-stackone-signature"


def new_secret() -> str:
    """A random secret, as receivers' libraries take it."""
    return PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether it can be a signing secret: `whsec_` and the base64 of as many bytes as Standard Webhooks asks for."""
    try:
        return 24 <= len(_key(text)) <= 64
    except ValueError:
        return False


def standard_signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

    Raises ValueError for a secret that is not `whsec_` and base64, or an id with a dot: it would make the signed text
    ambiguous.
    """
    if "." in id:
        raise ValueError("a webhook id must not contain a dot")
    signed = hmac.digest(_key(secret), f"{id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(signed).decode()


def stackone_signature(secret: str, body: bytes) -> str:
    """HMAC-SHA256 of the body alone, base64url without padding."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), body, "sha256")).rstrip(b"=").decode()


def signature_headers(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> list[tuple[str, str]]:
    """All headers of one attempt. `timestamp` is the attempt's, in seconds; `secrets` are the active ones, oldest first.

    `webhook-signature` carries one signature per secret. `x-stackone-signature` has room for one value, so the oldest
    active secret makes it: receivers know the newer one by the time the old one is switched off.
    """
    return [
        (ID, id),
        (TIMESTAMP, str(timestamp)),
        (SIGNATURE, " ".join(standard_signature(secret, id, timestamp, body) for secret in secrets)),
        (STACKONE_SIGNATURE, stackone_signature(secrets[0], body)),
    ]


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True) if encoded != secret else b""
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"a webhook secret is {PREFIX} and base64")
    return key
