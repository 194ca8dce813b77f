"""Positions in lists and composite ids, as the format writes them: both are portable between engines. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mooring import errors
from mooring.kit import clock

_VERSION: Final = 2
_ID_PREFIX: Final = "c28xIQ"  # base64url of `so1!`
_UNESCAPED: Final = re.compile(r"(?<!\\),")
_COLON: Final = re.compile(r"(?<!\\):")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a paginated step goes on: the provider's cursor, the number of the page, and the records already given."""

    token: Any = None
    number: int | None = None
    position: int = 0


def encode(step: int, cursor: Cursor) -> str:
    """The `next` of a page. `step` is the index of the step that goes through pages."""
    entry = {"n": cursor.number, "c": cursor.token, "p": cursor.position}
    whole = {"r": {str(step): entry}, "v": _VERSION, "t": int(clock.timestamp() * 1000)}
    return _pack(orjson.dumps(whole))


def decode(step: int, text: str) -> Cursor:
    """The position of a `next`. Raises ValidationFailed for what no list has given."""
    try:
        entry = orjson.loads(_unpack(text))["r"][str(step)]
        token, number, position = entry.get("c"), entry.get("n"), entry.get("p") or 0
        if isinstance(token, str | int | dict | None) and isinstance(number, int | None) and isinstance(position, int):
            return Cursor(token, number, max(position, 0))
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        pass
    raise errors.ValidationFailed("Validation failed", errors=["next: is not a position that this action has given"])


def composite(record: Mapping[str, Any], components: Sequence[tuple[str, str]]) -> str | None:
    """The id made of several values of a record; None when one of them is missing."""
    parts = []
    for name, alias in components:
        value = record.get(name)
        if value is None:
            return None
        parts.append(f"{_escaped(alias)}:{_escaped(str(value))}")
    return _ID_PREFIX + _pack(",".join(parts).encode())


def decomposed(value: Any, names: Mapping[str, str]) -> Any:
    """The values inside of a composite id: one value alone, several by name. Anything else stays as it is.

    `names` has the whole name of each that ids abbreviate (`alias`).
    """
    if not isinstance(value, str) or not value.startswith(_ID_PREFIX):
        return value
    try:
        text = _unpack(value.removeprefix(_ID_PREFIX)).decode()
    except (ValueError, binascii.Error):
        return value
    pairs = [_COLON.split(part, maxsplit=1) for part in _UNESCAPED.split(text)]
    if not all(len(pair) == 2 for pair in pairs):
        return value
    plain = {_plain(key): _plain(item) for key, item in pairs}
    named = {names.get(key, key): item for key, item in plain.items()}
    return next(iter(named.values())) if len(named) == 1 else named


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _pack(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unpack(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
