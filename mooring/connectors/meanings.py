"""What a connector's own `errors` say of an answer: the one place for what only one provider does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from mooring.connectors.definition import Connector, Meaning
from mooring.protocol.expressions import UNDEFINED, ExpressionError

_READ: Final = 64 * 1024
# What an outcome of the format means where a cause is asked for.
_CAUSE_OF: Final = {
    "rate_limited": "rate_limited",
    "auth_expired": "wrong_credentials",
    "forbidden": "missing_scope",
    "retry": "provider_error",
}


def declared_cause(connector: Connector, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """The cause that the first matching rule of the connector gives, or None."""
    telling = [m for m in connector.meanings if m.cause is not None or m.outcome in _CAUSE_OF]
    found = first_meaning(telling, status, headers, body)
    return None if found is None else found.cause or _CAUSE_OF[found.outcome or ""]


def first_meaning(meanings: Sequence[Meaning], status: int, headers: Mapping[str, str], body: bytes) -> Meaning | None:
    """The first rule whose conditions hold for an answer, or None."""
    if not meanings:
        return None
    text = body[:_READ].decode("utf-8", "replace").lower()
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    scope = {"response": {"status": status, "headers": dict(headers), "body": data}}
    return next((meaning for meaning in meanings if _holds(meaning, status, text, scope)), None)


def _holds(meaning: Meaning, status: int, text: str, scope: Mapping[str, Any]) -> bool:
    if meaning.status is not None and not _is_status(meaning.status, status):
        return False
    if meaning.text is not None and meaning.text not in text:
        return False
    if meaning.when is None:
        return True
    try:
        value = meaning.when.value(scope)
    except ExpressionError:
        return False
    return value is not UNDEFINED and bool(value)


def _is_status(pattern: str, status: int) -> bool:
    return pattern == str(status) or (pattern.endswith("xx") and pattern[0] == str(status)[:1])
