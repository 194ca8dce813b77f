"""One account of a list from elsewhere, as the readers of `nango` and `tokens` understand it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Literal

Kind = Literal["oauth2", "machine", "fields"]
LINE_LIMIT = 4 << 20  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """What a list says of one account. `line` is where it begins."""

    line: int
    provider: str
    config: str | None  # what the list calls the auth config
    method: str | None
    owner_id: str
    owner_name: str
    username: str | None
    label: str | None
    external_id: str | None  # its id in the system that it comes from
    metadata: Mapping[str, Any] | None
    kind: Kind | None  # None: whatever fits the auth config
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    scopes: tuple[str, ...] | None
    secrets: Mapping[str, str] = field(repr=False)  # values of a form that must find their field
    settings: Mapping[str, str] = field(repr=False)  # values that are used where a field has their name
    raw: Mapping[str, Any] = field(repr=False)  # what the token answer held


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line can't be imported. Never holds a value that may be secret."""

    line: int
    message: str


Reading = Iterator[Row | Fault]


class FaultError(ValueError):
    """A row is not usable; the message says why."""


def text(values: Mapping[str, Any], name: str, *, required: bool = False, limit: int = 500) -> str | None:
    """A value as text, None where it is missing or empty. Raises FaultError."""
    value = values.get(name)
    if isinstance(value, bool) or not (value is None or isinstance(value, str | int)):
        raise FaultError(f"{name}: must be text")
    found = "" if value is None else str(value).strip()
    if not found:
        if required:
            raise FaultError(f"{name}: is missing")
        return None
    if len(found) > limit:
        raise FaultError(f"{name}: is longer than {limit} characters")
    return found


def moment(values: Mapping[str, Any], name: str) -> datetime | None:
    """A time in RFC 3339 or as UNIX seconds or milliseconds. Raises FaultError."""
    value = values.get(name)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "", 1).isdigit()):
            seconds = float(value)
            return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        raise FaultError(f"{name}: must be a time such as 2026-01-31T12:00:00Z, or UNIX seconds") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def scopes(value: Any) -> tuple[str, ...] | None:
    """Scopes as a list or a text. Raises FaultError."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return tuple(dict.fromkeys(value.replace(",", " ").split()))
    if isinstance(value, list) and all(isinstance(s, str) for s in value):
        return tuple(dict.fromkeys(value))
    raise FaultError("scopes: must be a list, or one text with spaces")


def mapping(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object, empty where it is missing. Raises FaultError."""
    value = values.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FaultError(f"{name}: must be an object")
    return value


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The values that are text or numbers, as text; empty ones are left out."""
    return {
        name: str(value)
        for name, value in values.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip()
    }


def lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a byte order mark and empty lines are left out. Raises FaultError for an endless one."""
    number = 0
    while line := file.readline(LINE_LIMIT):
        number += 1
        if len(line) == LINE_LIMIT and not line.endswith("\n"):
            raise FaultError(f"line {number} is longer than {LINE_LIMIT} characters")
        line = line.lstrip("\ufeff") if number == 1 else line
        if line.strip():
            yield number, line
