"""Read a list of tokens: JSON lines, or CSV with a header. Pure.

Both have the same names. `fields.NAME` (in JSON also `fields: {NAME: …}`) is a value of the connector's form.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from mooring.moving.rows import Fault, FaultError, Reading, Row, lines, mapping, moment, scopes, text, texts

NAMES: Final = (
    "provider", "auth_config", "method", "origin_owner_id", "origin_owner_name", "origin_username", "label",
    "external_id", "access_token", "refresh_token", "expires_at", "scopes", "metadata",
)  # fmt: skip
_FIELD: Final = "fields."


def read(file: IO[str]) -> Reading:
    """Every row of the file, or why it can't be imported, in the order of the file."""
    start = file.read(4096).lstrip("\ufeff \t\r\n")
    file.seek(0)
    rows = _json(file) if start.startswith("{") else _csv(file)
    try:
        for line, values in rows:
            try:
                yield values if isinstance(values, Fault) else _row(line, values)
            except FaultError as e:
                yield Fault(line, str(e))
    except FaultError as e:
        yield Fault(0, str(e))


def _json(file: IO[str]) -> Iterator[tuple[int, Any]]:
    for number, line in lines(file):
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            value = Fault(number, "is no JSON")
        yield number, value


def _csv(file: IO[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.reader((line for _, line in _all(file)), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if not head:
            raise FaultError("the file is empty")
        if len(set(head)) != len(head):
            raise FaultError("line 1: a column stands twice")
        while True:
            line = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                yield line, Fault(line, f"has {len(cells)} columns, the first line has {len(head)}")
                continue
            yield line, {name: cell for name, cell in zip(head, cells, strict=True) if cell.strip()}
    except csv.Error as e:
        raise FaultError(f"line {reader.line_num}: is no CSV ({e})") from None


def _all(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Every line, also the empty ones, which may stand inside a quoted cell."""
    for number, line in enumerate(file, 1):
        yield number, line.lstrip("\ufeff") if number == 1 else line


def _row(line: int, values: Any) -> Row:
    if not isinstance(values, dict):
        raise FaultError("must be an object")
    unknown = [n for n in values if n not in NAMES and n != "fields" and not n.startswith(_FIELD)]
    if unknown:
        raise FaultError(f"{unknown[0][:60]}: is unknown; known are {', '.join(NAMES)} and fields.NAME")
    provider, owner = (text(values, name, required=True) or "" for name in ("provider", "origin_owner_id"))
    fields = texts(mapping(values, "fields")) | {
        name.removeprefix(_FIELD): value
        for name, value in texts({n: v for n, v in values.items() if n.startswith(_FIELD)}).items()
    }
    access, refresh = (text(values, name, limit=20_000) for name in ("access_token", "refresh_token"))
    if access is None and refresh is None and not fields:
        raise FaultError("holds no credential: access_token, refresh_token or fields.NAME")
    return Row(
        line=line,
        provider=provider,
        config=text(values, "auth_config"),
        method=text(values, "method"),
        owner_id=owner,
        owner_name=text(values, "origin_owner_name") or owner,
        username=text(values, "origin_username"),
        label=text(values, "label"),
        external_id=text(values, "external_id"),
        metadata=_metadata(values) or None,
        kind=None,
        access_token=access,
        refresh_token=refresh,
        expires_at=moment(values, "expires_at"),
        scopes=scopes(values.get("scopes")),
        secrets=fields,
        settings={},
        raw=fields,
    )


def _metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    found = values.get("metadata")
    if isinstance(found, str):  # a cell of a CSV
        try:
            found = json.loads(found)
        except json.JSONDecodeError:
            raise FaultError("metadata: must be a JSON object") from None
    return mapping({"metadata": found}, "metadata")
