"""`sign_jwt`: a token signed with a key of the account (RFC 7519, RS256)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from mooring import errors
from mooring.kit import clock

_MOMENT: Final = re.compile(r"now(?:([+-]\d{1,9})([smhd]))?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def signed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The token, how long it lives, and the fingerprint of its public key. Raises Unprocessable."""
    from joserfc import jwk, jwt
    from joserfc.errors import JoseError

    algorithm = str(parameters.get("algorithm") or "RS256")
    key = parameters.get("privateKey")
    claims = parameters.get("claims")
    if not isinstance(key, str) or not isinstance(claims, Mapping):
        raise errors.Unprocessable("a signed token needs a private key and claims")
    now = int(clock.timestamp())
    try:
        private = jwk.RSAKey.import_key(key)
        spki = private.as_der(private=False)
        print_ = "SHA256:" + base64.b64encode(hashlib.sha256(spki).digest()).decode()
        filled = {name: _claim(value, now, print_) for name, value in claims.items()}
        token = jwt.encode({"alg": algorithm, "typ": "JWT"}, filled, private, algorithms=[algorithm])
    except (JoseError, ValueError):
        raise errors.Unprocessable("the private key of the account can't sign: it is no RSA key in PEM") from None
    until = filled.get("exp")
    return {
        "token": token,
        "expiresIn": until - now if isinstance(until, int) else None,
        "publicKeyFingerprint": print_,
    }


def _claim(value: Any, now: int, fingerprint: str) -> Any:
    if not isinstance(value, str):
        return value
    moment = _MOMENT.fullmatch(value.strip())
    if moment is not None:
        return now + (int(moment[1]) * _SECONDS[moment[2]] if moment[1] else 0)
    return value.replace("{publicKeyFingerprint}", fingerprint)
