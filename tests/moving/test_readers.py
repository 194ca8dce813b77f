"""What the readers of lists make of a file: rows, and faults with the lines that they stand on. No values in them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mooring.moving import nango, tokens
from mooring.moving.rows import Fault, Row

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def connection(**changes: Any) -> dict[str, Any]:
    made = {
        "connection_id": "c-1",
        "provider_config_key": "hubspot-prod",
        "provider": "hubspot",
        "credentials": {
            "type": "OAUTH2",
            "access_token": "at",
            "refresh_token": "rt",
            "expires_at": "2026-01-31T12:00:00.000Z",
            "raw": {"scope": "a b", "instance_url": "https://x.example"},
        },
        "connection_config": {"subdomain": "acme", "n": 5, "deep": {"x": 1}},
        "metadata": {"tier": "gold"},
        "end_user": {
            "id": "u-1",
            "email": "jane@acme.example",
            "display_name": "Jane",
            "organization": {"id": "o-1", "display_name": "Acme"},
        },
    }
    return made | changes


def of_nango(text: str) -> list[Row | Fault]:
    return list(nango.read(io.StringIO(text)))


def of_tokens(text: str) -> list[Row | Fault]:
    return list(tokens.read(io.StringIO(text)))


def test_a_connection_is_read_whole() -> None:
    (row,) = of_nango(json.dumps([connection()]))
    assert isinstance(row, Row)
    assert (row.provider, row.config, row.kind, row.external_id) == ("hubspot", "hubspot-prod", "oauth2", "c-1")
    assert (row.owner_id, row.owner_name, row.username) == ("o-1", "Acme", "jane@acme.example")
    assert (row.access_token, row.refresh_token, row.expires_at, row.scopes) == ("at", "rt", AT, ("a", "b"))
    assert row.settings == {"subdomain": "acme", "n": "5"} and row.raw["instance_url"] == "https://x.example"
    assert row.metadata == {"tier": "gold"}
    assert "at" not in repr(row).replace("metadata", "").replace("method", "").split("'") and "rt'" not in repr(row)


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        (None, ("c-1", "c-1", None)),
        ({"id": "u-1"}, ("u-1", "u-1", None)),
        ({"id": "u-1", "email": "j@x.example"}, ("u-1", "j@x.example", "j@x.example")),
        ({"id": "u-1", "organization": {"id": "o-1"}}, ("o-1", "o-1", "u-1")),
        ({"id": "u-1", "organization": None, "displayName": "Jane"}, ("u-1", "Jane", None)),
    ],
)
def test_whose_a_connection_is(user: Any, owner: tuple[str, str, str | None]) -> None:
    (row,) = of_nango(json.dumps([connection(end_user=user)]))
    assert isinstance(row, Row) and (row.owner_id, row.owner_name, row.username) == owner


@pytest.mark.parametrize("shape", ["array", "object", "lines", "indented", "one"])
def test_every_shape_of_a_file_tells_its_lines(shape: str) -> None:
    good, bad = connection(), connection(credentials={"type": "WHAT"})
    text, line = {
        "array": (json.dumps([good, bad]), 1),
        "object": (json.dumps({"x": {"connections": 1}, "connections": [good, bad]}, indent=1), None),
        "lines": (f"\ufeff{json.dumps(good)}\n\n{json.dumps(bad)}\n", 3),
        "indented": (f"[\n{json.dumps(good)},\n\n{json.dumps(bad)}\n]", 4),
        "one": (json.dumps(bad), 1),
    }[shape]
    *rows, fault = of_nango(text)
    assert len(rows) == (shape != "one") and all(isinstance(row, Row) for row in rows)
    assert isinstance(fault, Fault) and "credentials.type: 'WHAT'" in fault.message
    assert line is None or fault.line == line


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, None),
        ("[", 0, "ends before its list does"),
        ('[{"a": 1}, \n {"b" 2}]', 0, "line 2: is no JSON"),
        ("[1]", 1, "must be an object"),
        ('[{"connection_id": 5}]', 1, "provider: is missing"),
        ('[{"connection_id": "c", "provider": "p", "credentials": []}]', 1, "credentials: must be an object"),
        ('[{"connection_id": "c", "provider": "p", "credentials": {"type": "OAUTH2"}}]', 1, "access_token: is missing"),
        ('[{"connection_id": "c", "provider": "p", "credentials": {"type": "API_KEY"}}]', 1, "hold nothing of API_KEY"),
        ("[" * 100_000, 0, "is no JSON"),
    ],
)
def test_a_faulty_export_is_told(text: str, line: int, message: str | None) -> None:
    found = of_nango(text)
    if message is None:
        assert found == []
    else:
        assert isinstance(found[-1], Fault) and message in found[-1].message and found[-1].line == line


HEAD = "provider,origin_owner_id,access_token,refresh_token,expires_at,fields.domain,metadata"


def test_a_csv_and_json_lines_say_the_same() -> None:
    values = {
        "provider": "hubspot",
        "origin_owner_id": "o-1",
        "access_token": "at",
        "expires_at": 1769860800,
        "fields": {"domain": "acme"},
        "metadata": {"a": 1},
    }
    (one,) = of_tokens(json.dumps(values))
    (two,) = of_tokens(f'{HEAD}\nhubspot,o-1,at,,1769860800000,acme,"{{""a"": 1}}"\n')
    assert isinstance(one, Row) and isinstance(two, Row)
    assert (one.expires_at, one.secrets, one.metadata, one.owner_name) == (AT, {"domain": "acme"}, {"a": 1}, "o-1")
    assert [getattr(one, n) for n in Row.__slots__ if n != "line"] == [
        getattr(two, n) for n in Row.__slots__ if n != "line"
    ]
    assert (one.line, two.line) == (1, 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("hubspot,,at,,,,", "origin_owner_id: is missing"),
        (",o,at,,,,", "provider: is missing"),
        ("hubspot,o,,,,,", "holds no credential"),
        ("hubspot,o,at,,tomorrow,,", "expires_at: must be a time"),
        ("hubspot,o,at,,,,[1]", "metadata: must be an object"),
        ("hubspot,o,at,,,,{", "metadata: must be a JSON object"),
        ("hubspot,o,at", "has 3 columns, the first line has 7"),
        (f"hubspot,o,{'x' * 20_001},,,,", "access_token: is longer than 20000"),
    ],
)
def test_a_faulty_row_is_told_with_its_line(row: str, message: str) -> None:
    first, fault, last = of_tokens(f'{HEAD}\nhubspot,"o\n1",at,,,,\n\n{row}\nhubspot,o,at,,,,\n')
    assert isinstance(first, Row) and first.line == 2 and isinstance(last, Row) and last.line == 6
    assert isinstance(fault, Fault) and message in fault.message and fault.line == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,a\n1,2\n", "line 1: a column stands twice"),
        ("what,provider\nx,hubspot\n", "what: is unknown"),
        ('provider\n"x', "is no CSV"),
        ("{\n", "is no JSON"),
        ('{"provider": ["x"]}', "provider: must be text"),
    ],
)
def test_a_faulty_list_is_told(text: str, message: str) -> None:
    found = of_tokens(text)
    assert isinstance(found[-1], Fault) and message in found[-1].message
