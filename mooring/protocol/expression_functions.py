"""The functions that an expression may call. There is no other way to run code."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mooring.protocol.expression_values import MAX_TEXT, UNDEFINED, contains, is_missing, to_text


class Function(NamedTuple):
    """A callable of the language with the number of arguments that it takes."""

    call: Callable[..., Any]
    least: int
    most: int


def _of_text(function: Callable[[str], Any]) -> Function:
    """Make a one-argument function that answers nothing for nothing and reads anything else as text."""
    return Function(lambda value: UNDEFINED if value is UNDEFINED or value is None else function(to_text(value)), 1, 1)


def _present(value: Any) -> bool:
    return value is not UNDEFINED and value is not None


def _includes(values: Any, wanted: Any) -> bool:
    if not isinstance(values, list) or not values or is_missing(wanted):
        return False
    return all(contains(w, values) for w in wanted) if isinstance(wanted, list) else contains(wanted, values)


def _includes_some(values: Any, wanted: Any) -> bool:
    if not isinstance(values, list) or not values or is_missing(wanted):
        return False
    return any(contains(w, values) for w in wanted) if isinstance(wanted, list) else contains(wanted, values)


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Mapping) else []


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encode_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode_base64(text: str) -> Any:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return UNDEFINED


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _join(values: Any, separator: Any = ",") -> Any:
    if not isinstance(values, list):
        return UNDEFINED
    return to_text(separator).join(to_text(v) for v in values if v is not None and v is not UNDEFINED)


def _split(value: Any, separator: Any) -> Any:
    if not isinstance(value, str):
        return UNDEFINED
    by = to_text(separator)
    return value.split(by) if by else list(value)


def _replace(value: Any, old: Any, new: Any) -> Any:
    if not isinstance(value, str):
        return UNDEFINED
    old, new = to_text(old), to_text(new)
    if not old:
        return value
    if len(value) + value.count(old) * (len(new) - len(old)) > MAX_TEXT:
        raise OverflowError
    return value.replace(old, new)


def _count(value: Any) -> Any:
    """How many elements a list, object or text has; of anything else nothing."""
    return len(value) if isinstance(value, list | Mapping | str) else UNDEFINED


FUNCTIONS: Final[Mapping[str, Function]] = {
    "present": Function(_present, 1, 1),
    "missing": Function(is_missing, 1, 1),
    "includes": Function(_includes, 2, 2),
    "includesSome": Function(_includes_some, 2, 2),
    "keys": Function(_keys, 1, 1),
    "values": Function(_values, 1, 1),
    "count": Function(_count, 1, 1),
    "now": Function(_now, 0, 0),
    "encodeBase64": _of_text(_encode_base64),
    "decodeBase64": _of_text(_decode_base64),
    "capitalize": _of_text(lambda text: text[:1].upper() + text[1:]),
    "lower": _of_text(str.lower),
    "upper": _of_text(str.upper),
    "trim": _of_text(str.strip),
    "sha256": _of_text(_sha256),
    "join": Function(_join, 1, 2),
    "split": Function(_split, 2, 2),
    "replace": Function(_replace, 3, 3),
}
