"""Queries and XML of `.s1.yaml` actions, as `@stackone/transport` 2.35.0 sends and reads them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mooring import errors
from mooring.actions.s1.bodies import Query, add, from_xml, pairs_of, to_xml
from mooring.actions.s1.http import pem_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("q", ["a", 1], None)], [("q[0]", "a"), ("q[1]", "1")]),
        ([("q", "a", None), ("q", "b", None)], [("q[0]", "a"), ("q[1]", "b")]),
        ([("q", "a", None), ("q", ["b"], "comma")], [("q", "a,b")]),
        ([("q", ["a"], "comma"), ("q", "b", None)], [("q", "a,b")]),
        ([("q", ["a", "b"], "repeat")], [("q", "a"), ("q", "b")]),
        ([("q", ["a", "b"], "brackets")], [("q[]", "a"), ("q[]", "b")]),
        ([("q", "a", "brackets")], [("q[]", "a")]),
        ([("q", "a", "comma")], [("q", "a")]),
        ([("q", ["a", 1, None], "stringify")], [("q", '["a","1","null"]')]),
        ([("q", "a", "stringify")], [("q", '["a"]')]),
        ([("q", [], "comma")], []),
        ([("q", [], None)], []),
        ([("b", ["1"], "comma"), ("a", "2", None), ("c", "3", "repeat")], [("a", "2"), ("c", "3"), ("b", "1")]),
    ],
)
def test_a_query_is_written_in_the_style_that_is_asked_for(given: Any, expected: list[tuple[str, str]]) -> None:
    query: Query = {}
    for name, value, style in given:
        add(query, name, value, style)
    assert pairs_of(query) == expected


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1), ("-5", -5), ("+1", 1), ("1.5", 1.5), ("1.50", 1.5), ("1.0", 1), ("1e3", 1000), ("0", 0), ("0.5", 0.5),
        ("007", "007"), ("0x1f", "0x1f"), ("1.2.3", "1.2.3"), ("2024-01-01", "2024-01-01"), ("1,5", "1,5"),
        ("12345678901234567890", "12345678901234567890"), ("0.12345678901234567890", "0.12345678901234567890"),
        ("true", True), ("false", False), ("True", "True"), ("", ""), ("Ada", "Ada"), ("٣", "٣"),
    ],
)  # fmt: skip
def test_elements_are_numbers_only_where_nothing_is_lost(written: str, value: Any) -> None:
    found = from_xml(f'<a n="1"><b>{written}</b></a>'.encode())
    assert found == {"a": {"@_n": "1", "b": value}} and type(found["a"]["b"]) is type(value)


def test_xml_is_written_without_a_declaration() -> None:
    assert to_xml({"a": {"@_x": None, "@_y": 1, "b": [1, [2.0, True]], "c": None}}) == (
        b'<a y="1"><b>1</b><b>2</b><b>true</b><c></c></a>'
    )
    assert to_xml({"a": ["1", "2"], "b": "<"}) == b"<a>1</a><a>2</a><b>&lt;</b>"
    for wrong in ({}, [1], "text", {"a b": 1}, {"a": {"<x>": 1}}):
        with pytest.raises(errors.Unprocessable):
            to_xml(wrong)


def test_a_key_is_read_in_the_forms_that_files_have() -> None:
    bare = base64.b64encode(b"\x30\x82\xff\x00 no real key").decode()
    whole = f"-----BEGIN PRIVATE KEY-----\n{bare}\n-----END PRIVATE KEY-----\n"
    joined = base64.b64encode(f"{bare}###a certificate".encode()).decode()
    assert pem_of(whole) == pem_of(f" {bare}\n") == pem_of(joined) == whole
