"""Read the answer to a login of a provider's own, which is no OAuth and follows no standard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from mooring.protocol.oauth2 import TokenAnswer, TokenNonsense, TokenRefused, dig, lifetime, require_served
from mooring.protocol.redact import clean_line

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")  # what a header value can hold without quoting
_WORDS: Final = ("message", "error_description", "error", "detail", "title")


def parse_login_answer(status: int, body: bytes, *, token_path: str, retry_after: str | None = None) -> TokenAnswer:
    """Read the token at `token_path`; with an empty path the answer is the token, as JSON text or as it stands.

    Raises TokenRefused for a 4xx and for an answer that tells of an error instead of a token, TokenNonsense for what is
    neither. What an overloaded or broken server says is not believed (rule O15).
    """
    require_served(status, retry_after, "the login")
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if status >= 400:
        raise TokenRefused("login_refused", _said(data) or f"status {status}", status)
    if not token_path:
        token = data if isinstance(data, str) else body.decode("ascii", "replace").strip() if data is None else None
    else:
        token = dig(data, token_path) if isinstance(data, Mapping | list) else None
    if isinstance(token, str) and _TOKEN.fullmatch(token):
        raw = data if isinstance(data, Mapping) else {}
        return TokenAnswer(
            access_token=token,
            refresh_token=None,
            expires_in=lifetime(raw.get("expires_in")),
            refresh_expires_in=None,
            scope=None,
            raw=raw,
        )
    if (said := _said(data)) is not None:
        raise TokenRefused("login_refused", said, status)
    if data is None:
        page = body.lstrip()[:1] == b"<"
        raise TokenNonsense(
            f"the login answered {status} with {'HTML' if page else 'no JSON'} instead of a token",
            status,
            transient=True,
            kind="html" if page else "not_json",
        )
    raise TokenNonsense("the answer to the login holds no token", status, transient=False, kind="no_token")


def _said(data: Any) -> str | None:
    """What an answer says of an error, in one line."""
    if not isinstance(data, Mapping):
        return None
    for word in _WORDS:
        found = data.get(word)
        if isinstance(found, Mapping):
            found = found.get("message")
        if isinstance(found, str) and found.strip():
            return clean_line(found, 300)
    return None
