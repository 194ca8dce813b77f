"""Read a JSON export in the shape of Nango's connections: an array, `{"connections": […]}`, or JSON lines. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from mooring.moving.rows import Fault, FaultError, Kind, Reading, Row, lines, mapping, moment, scopes, text, texts

MAX_CHARACTERS: Final = 256 << 20  # of a file that is one JSON value, which is read whole

_PARTS: Final[Mapping[str, tuple[Kind, Mapping[str, str]]]] = {
    # type → how it is used, and the names of its secrets → what a form is likely to call them
    "API_KEY": ("fields", {"apiKey": "api_key", "api_key": "api_key"}),
    "BASIC": ("fields", {"username": "username", "password": "password"}),
    "OAUTH1": ("fields", {"oauth_token": "oauth_token", "oauth_token_secret": "oauth_token_secret"}),
    "TBA": ("fields", {"token_id": "token_id", "token_secret": "token_secret"}),
    "OAUTH2": ("oauth2", {}),
    "OAUTH2_CC": (
        "machine",
        {"client_id": "client_id", "client_secret": "client_secret", "client_certificate": "client_certificate",
         "client_private_key": "client_private_key"},
    ),
}  # fmt: skip


def read(file: IO[str]) -> Reading:
    """Every connection of the file, or why it can't be imported, in the order of the file."""
    try:
        for line, value in _values(file):
            try:
                yield _row(line, value)
            except FaultError as e:
                yield Fault(line, str(e))
    except FaultError as e:  # the file itself is not well-formed from here on
        yield Fault(0, str(e))


def _values(file: IO[str]) -> Iterator[tuple[int, Any]]:
    """The connections with the lines that they begin on."""
    whole = file.read(MAX_CHARACTERS + 1)
    if len(whole) > MAX_CHARACTERS:
        raise FaultError("the file is longer than 256 MiB; write it as JSON lines, one connection a line, in parts")
    whole = whole.lstrip("\ufeff")
    start = len(whole) - len(whole.lstrip())
    if whole[start : start + 1] == "[":
        yield from _elements(whole, start + 1)
        return
    first = _decode(whole, start)[0] if whole[start:] else None
    if isinstance(first, dict) and isinstance(first.get("connections"), list):
        # Its own place in the text, so that lines can be told.
        yield from _elements(whole, whole.index("[", whole.index('"connections"')) + 1)
        return
    file.seek(0)
    for number, line in lines(file):
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as e:
            raise FaultError(f"line {number}: is no JSON ({e.msg})") from None


def _elements(whole: str, at: int) -> Iterator[tuple[int, Any]]:
    line, counted = 1, 0
    while True:
        while at < len(whole) and whole[at] in " \t\r\n,":
            at += 1
        if at >= len(whole):
            raise FaultError("the file ends before its list does")
        if whole[at] == "]":
            return
        line, counted = line + whole.count("\n", counted, at), at
        value, at = _decode(whole, at)
        yield line, value


def _decode(whole: str, at: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(whole, at)
    except (json.JSONDecodeError, RecursionError) as e:
        raise FaultError(f"line {whole.count(chr(10), 0, getattr(e, 'pos', at)) + 1}: is no JSON") from None


def _row(line: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise FaultError("must be an object")
    connection = text(value, "connection_id", required=True)
    config = text(value, "provider_config_key")
    provider = text(value, "provider") or config
    if provider is None:
        raise FaultError("provider: is missing")
    credentials = mapping(value, "credentials")
    kind = str(credentials.get("type"))
    if kind not in _PARTS:
        known = ", ".join(_PARTS)
        raise FaultError(f"credentials.type: {kind[:40]!r} can't be imported; known are {known}")
    use, names = _PARTS[kind]
    raw = mapping(credentials, "raw")
    settings = texts(mapping(value, "connection_config"))
    secrets = {
        field: found for name, field in names.items() if (found := text(credentials, name, limit=20_000)) is not None
    }
    if use == "fields" and not secrets:
        raise FaultError(f"credentials: hold nothing of {kind}")
    owner_id, owner_name, username = _owner(value, connection or "")
    return Row(
        line=line,
        provider=provider,
        config=config,
        method=None,
        owner_id=owner_id,
        owner_name=owner_name,
        username=username,
        label=None,
        external_id=connection,
        metadata=mapping(value, "metadata") or None,
        kind=use,
        access_token=text(credentials, "access_token" if use == "oauth2" else "token", required=use == "oauth2",
                          limit=20_000) if use != "fields" else None,
        refresh_token=text(credentials, "refresh_token", limit=20_000) if use == "oauth2" else None,
        expires_at=moment(credentials, "expires_at"),
        scopes=scopes(raw.get("scope")),
        secrets=secrets,
        settings=settings,
        raw={**settings, **raw},
    )  # fmt: skip


def _owner(value: Mapping[str, Any], connection: str) -> tuple[str, str, str | None]:
    """Owner id, owner name and user name: the end user's organisation if there is one, else the end user."""
    user = mapping(value, "end_user")
    organization = mapping(user, "organization")
    user_id = text(user, "id") or text(user, "endUserId")
    user_name = text(user, "display_name") or text(user, "displayName") or text(user, "email")
    if owner := text(organization, "id"):
        name = text(organization, "display_name") or text(organization, "displayName") or owner
        return owner, name, text(user, "email") or user_id
    owner = user_id or connection
    return owner, user_name or owner, text(user, "email")
