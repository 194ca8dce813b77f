"""The pure parts of actions: pages, mappings, arguments and the search."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import errors
from mooring.actions import paging
from mooring.actions.inputs import gather
from mooring.actions.mapping import map_record
from mooring.actions.paging import Position
from mooring.actions.search import Index, stems
from mooring.connectors.actions import Action, Input, Paging
from mooring.protocol.template import compile_template


def turned(given: Paging, position: Position | None = None, wanted: int | None = None) -> dict[str, Any]:
    turn = paging.turn(given, position, wanted)
    return {"url": turn.url} if turn.url else dict(turn.parameters)


def after(given: Paging, position: Position | None = None, wanted: int | None = None, **answer: Any) -> Position | None:
    more = {"data": {}, "headers": {}, "count": 0, "scope": {}, **answer}
    return paging.following(given, position, wanted, **more)


def test_a_cursor_goes_where_the_connector_says() -> None:
    cursor = Paging("cursor", "paging.next", param="after", place="body", size_param="limit", size=50)
    assert turned(cursor) == {"body": {"limit": 50}}
    assert turned(cursor, Position("abc", 10)) == {"body": {"limit": 10, "after": "abc"}}
    assert after(cursor, data={"paging": {"next": "abc"}}, wanted=10) == Position("abc", 10)
    assert after(cursor, data={"paging": {"next": 17}}) == Position("17")
    for end in ({}, {"paging": {"next": None}}, {"paging": {"next": ""}}, {"paging": {"next": False}}):
        assert after(cursor, data=end) is None
    assert after(cursor, Position("abc"), data={"paging": {"next": "abc"}}) is None, "a provider that repeats itself"
    flagged = Paging("cursor", "next", param="after", more="has_more")
    assert after(flagged, data={"next": "x", "has_more": False}) is None
    assert after(flagged, data={"next": "x", "has_more": True}) == Position("x")


def test_a_link_is_in_the_header_or_in_the_body() -> None:
    header = Paging("link", "header")
    links = '<https://a.example/1>; rel="first", <https://a.example/2?x=1,2>; rel="next"'
    assert after(header, headers={"link": links}) == Position("https://a.example/2?x=1,2")
    assert after(header, headers={"link": '<https://a.example/1>; rel="prev"'}) is None
    assert turned(header, Position("https://a.example/2")) == {"url": "https://a.example/2"}
    assert after(Paging("link", "next_url"), data={"next_url": "/v1/x?page=2"}) == Position("/v1/x?page=2")


@pytest.mark.parametrize(
    ("style", "first", "now", "count", "total", "expected"),
    [
        ("page", None, None, 20, 45, 2),
        ("page", None, 3, 5, 45, None),
        ("page", 0, None, 20, 45, 1),
        ("offset", None, None, 20, 45, 20),
        ("offset", None, 40, 5, 45, None),
        ("page", None, None, 20, None, 2),
        ("page", None, 2, 19, None, None),
        ("offset", None, 20, 20, None, 40),
        ("offset", None, 20, 0, None, None),
    ],
)
def test_numbers_end_with_the_total_or_a_short_page(
    style: Any, first: int | None, now: int | None, count: int, total: int | None, expected: int | None
) -> None:
    given = Paging(style, "at", size_param="n", size=20, start=first, total="total" if total is not None else None)
    position = Position(now) if now is not None else None
    found = after(given, position, data={"total": total}, count=count)
    assert (found.value if found else None) == expected


def test_an_expression_may_end_the_list() -> None:
    given = Paging("page", "page", stop_when=compile_template("${response.body.last}"))
    assert after(given, count=5, scope={"response": {"body": {"last": True}}}) is None
    assert after(given, count=5, scope={"response": {"body": {}}}) == Position(2)


def test_a_position_fits_its_action_and_its_kind_alone() -> None:
    given = Paging("page", "page")
    token = paging.encode("list", Position(3, 10))
    assert paging.decode("list", token, given) == Position(3, 10)
    other = [("other", token, given), ("list", token, None), ("list", token, Paging("cursor", "x", param="y"))]
    other += [("list", "%%%", given), ("list", paging.encode("list", Position("3")), given)]
    for name, value, pages in other:
        with pytest.raises(errors.ValidationFailed):
            paging.decode(name, value, pages)


RECORD = {
    "id": 7,
    "name": {"first": "Ada"},
    "state": "A",
    "at": "2026-01-31T12:00:00+02:00",
    "ms": 1769860800000,
    "n": "4",
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("name.first", "Ada"),
        ("name.last", None),
        ("=fixed", "fixed"),
        (compile_template("${name.first + '!'}"), "Ada!"),
        (compile_template("${nothing}"), None),
        ({"from": "state", "enum": {"A": "active", "_": "unknown"}}, "active"),
        ({"from": "id", "enum": {"A": "active", "_": "unknown"}}, "unknown"),
        ({"from": "at", "type": "datetime"}, "2026-01-31T10:00:00Z"),
        ({"from": "ms", "type": "datetime"}, "2026-01-31T12:00:00Z"),
        ({"from": "state", "type": "datetime", "default": "-"}, "-"),
        ({"from": "n", "type": "integer"}, 4),
        ({"from": "id", "type": "string"}, "7"),
        ({"from": "nothing", "default": 0}, 0),
        ([{"number": "n", "kind": "=main"}], [{"number": "4", "kind": "main"}]),
    ],
)
def test_a_record_is_mapped(spec: Any, expected: Any) -> None:
    assert map_record(spec, RECORD) == expected


def action(*inputs: Input) -> Action:
    return Action("do", "Do", inputs=inputs)


def test_arguments_are_found_wherever_they_stand_and_read_as_what_they_are() -> None:
    inputs = (
        Input("id", "path", True, {"type": "string"}),
        Input("limit", "query", False, {"type": "integer"}),
        Input("open", "query", False, {"type": "boolean"}),
        Input("tags", "body", False, {"type": "array", "items": {"type": "string"}}),
    )
    given = {"query": {"id": 5, "limit": "3", "open": "true"}, "body": {"tags": ["a"]}, "path": None}
    found = gather(action(*inputs), given)
    assert found.values == {"id": "5", "limit": 3, "open": True, "tags": ["a"]}
    assert found.of("query") == {"limit": 3, "open": True} and found.of("path") == {"id": "5"}
    with pytest.raises(errors.ValidationFailed) as caught:
        gather(action(*inputs), {"query": {"limit": "x"}, "body": {"tags": ["a", 2]}})
    assert caught.value.errors == [
        "path.id: is required",
        "query.limit: must be integer",
        "body.tags[1]: must be string",
    ]


def test_a_refusal_of_arguments_shows_no_value() -> None:
    secret = Input("key", "body", True, {"type": "string", "pattern": "^x$", "maxLength": 3})
    with pytest.raises(errors.ValidationFailed) as caught:
        gather(action(secret), {"body": {"key": "very-private-value"}})
    assert "private" not in str(caught.value.errors)


def test_words_of_one_meaning_have_one_stem() -> None:
    assert stems("Listing Employees") == stems("find workers") == stems("fetchEmployee") == stems("all staff")
    assert stems("the of a") == []
    assert Index.of([]).search("anything") == []
