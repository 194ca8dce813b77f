"""Pages of a list: what a request needs for the next one, and what the answer tells of it. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mooring import errors
from mooring.connectors.actions import Paging
from mooring.protocol.expressions import UNDEFINED
from mooring.protocol.oauth2 import dig

_NEXT_LINK: Final = re.compile(r"<([^>]*)>\s*;[^,<]*\brel=\"?next\"?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: a cursor, an offset or page number, or a whole address; with the size that was asked for."""

    value: str | int
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request for a page needs: an address instead of the action's own, or parameters for a place."""

    url: str | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by place


def encode(action: str, position: Position) -> str:
    """The opaque `next` of an answer."""
    return base64.urlsafe_b64encode(orjson.dumps([action, position.value, position.size])).rstrip(b"=").decode()


def decode(action: str, token: str, paging: Paging | None) -> Position:
    """The position of a `next`. Raises ValidationFailed for what this action has not given."""
    try:
        name, value, size = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error):
        name = value = size = None
    numbered = paging is not None and paging.style in {"offset", "page"}
    kind: type = int if numbered else str
    whole = name == action and type(value) is kind and (size is None or type(size) is int)
    if paging is None or not whole:
        raise errors.ValidationFailed(
            "Validation failed", errors=["next: is not a position that this action has given"]
        )
    return Position(value, size)


def turn(paging: Paging, position: Position | None, wanted: int | None) -> Turn:
    """What to send for a page. `wanted` is the size that the caller asks for; a position remembers it."""
    if position is not None and paging.style == "link":
        return Turn(url=str(position.value))
    size = position.size if position is not None and position.size is not None else wanted or paging.size
    out: dict[str, dict[str, Any]] = {}
    if paging.size_param is not None and size is not None:
        out.setdefault(_size_place(paging), {})[paging.size_param] = size
    if paging.style == "cursor":
        if position is not None and paging.param is not None:
            out.setdefault(paging.place, {})[paging.param] = position.value
    elif paging.style != "link":
        first = paging.start if paging.start is not None else (1 if paging.style == "page" else 0)
        if position is not None or paging.start is not None:
            out.setdefault(paging.place, {})[paging.where] = position.value if position is not None else first
    return Turn(parameters=out)


def _size_place(paging: Paging) -> str:
    return "body" if paging.place == "body" else "query"


def following(
    paging: Paging,
    position: Position | None,
    wanted: int | None,
    *,
    data: Any,
    headers: Mapping[str, str],
    count: int,
    scope: Mapping[str, Any],
) -> Position | None:
    """The position after a page of `count` records, or None at the end. `scope` is what `stop_when` sees."""
    if paging.more is not None and not dig(data, paging.more):
        return None
    if paging.stop_when is not None:
        stop = paging.stop_when.value(scope)
        if stop is not UNDEFINED and stop:
            return None
    size = position.size if position is not None and position.size is not None else wanted
    if paging.style == "cursor":
        found = dig(data, paging.where)
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            return None
        if position is not None and str(found) == str(position.value):  # a provider that repeats itself
            return None
        return Position(str(found), size)
    if paging.style == "link":
        link = _link_header(headers) if paging.where == "header" else dig(data, paging.where)
        return Position(link, size) if isinstance(link, str) and link else None
    return _numbered(paging, position, size, data=data, count=count)


def _link_header(headers: Mapping[str, str]) -> str | None:
    found = _NEXT_LINK.search(headers.get("link", ""))
    return found[1] if found else None


def _numbered(paging: Paging, position: Position | None, size: int | None, *, data: Any, count: int) -> Position | None:
    if count == 0:
        return None
    start = paging.start if paging.start is not None else (1 if paging.style == "page" else 0)
    now = int(position.value) if position is not None else start
    page_size = size or paging.size
    total = dig(data, paging.total) if paging.total is not None else None
    if isinstance(total, int) and not isinstance(total, bool):
        seen = now + count if paging.style == "offset" else (now - start) * (page_size or count) + count
        if seen >= total:
            return None
    elif paging.more is None and page_size is not None and count < page_size:
        return None
    return Position(now + count if paging.style == "offset" else now + 1, size)
