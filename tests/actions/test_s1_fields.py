"""`map_fields` and `typecast` of `.s1.yaml` files.

The results in strict mode are those of `@stackone/core` 4.4.0, which was run beside ours on 2,366 cases: the others than
these were equal, too, but for what docs/connectors.md tells.
"""

from __future__ import annotations

from typing import Any

import pytest

from mooring.actions.s1.fields import map_data, typecast
from mooring.connectors.problem import Problem
from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.program import DataStep
from mooring.connectors.s1.steps import FUNCTIONS, Compiler
from mooring.protocol.expressions import UNDEFINED

FEW = [{"k": 1, "n": "x"}, {"k": 2, "n": "y"}]
K = [{"targetFieldKey": "p", "type": "string", "expression": "$.k"}]
VALUE = {"targetFieldKey": "f", "type": "string", "expression": "$.v"}
LISTED = {"targetFieldKey": "f", "type": "object", "array": True, "expression": "$.list"}
BOTH = [*K, {"targetFieldKey": "q", "type": "string", "expression": "$.v"}]


def enum(matcher: Any) -> dict[str, Any]:
    return {**VALUE, "type": "enum", "enumMapper": {"matcher": matcher}}


class Nowhere:
    def problem(self, at: Any, message: str, *, on_key: bool = False) -> Problem:
        raise AssertionError(message)


def step_of(function: str, fields: list[dict[str, Any]], strict: bool) -> DataStep:
    notes = Notes(Nowhere(), strict=strict)  # type: ignore[arg-type]
    made = FUNCTIONS[function](Compiler(notes, {}, ()), function, {"fields": fields, "dataSource": "$.inputs.r"}, ())
    assert isinstance(made, DataStep)
    return made


def mapped(record: Any, *fields: dict[str, Any], strict: bool = True) -> Any:
    return map_data(step_of("map_fields", list(fields), strict), record, {"inputs": {"r": record}}, strict=strict)


def cast(record: Any, *fields: dict[str, Any]) -> Any:
    return typecast(step_of("typecast", list(fields), True), record)


@pytest.mark.parametrize(
    ("record", "field", "expected"),
    [
        ({"v": None}, VALUE, {"f": None}),
        ({}, VALUE, {}),
        ({"v": 0}, VALUE, {"f": 0}),
        ({"v": "a"}, {**VALUE, "array": True}, {"f": "a"}),
        ({"v": "a"}, enum([]), {"f": {"value": "unmapped_value", "source_value": "a"}}),
        ({}, enum("country_name_by_alpha2code"),
         {"f": {"value": "unmapped_value", "source_value": None}}),
        ({"v": "IE"}, enum("country_name_by_alpha2code"),
         {"f": {"value": "Ireland", "source_value": "IE"}}),
        ({"v": "docx"}, enum("document_file_format_from_extension"),
         {"f": {"value": "docx", "source_value": "docx"}}),
        # An object always stands there; the items of a list see themselves and not the record around them.
        ({}, {"targetFieldKey": "f", "type": "object", "properties": K}, {"f": {}}),
        ({"list": FEW, "v": 9}, {**LISTED, "properties": BOTH},
         {"f": [{"p": 1}, {"p": 2}]}),
        ({"v": 9}, {"targetFieldKey": "f", "type": "object", "properties": BOTH}, {"f": {"q": 9}}),
        ({"list": [{"k": 1}, None, ""]}, {**LISTED, "properties": K},
         {"f": [{"p": 1}]}),
        ({"list": []}, {**LISTED, "properties": K}, {"f": []}),
        ({}, {**LISTED, "properties": K}, {}),
        ({"v": None}, {**VALUE, "custom": True}, {"unified_custom_fields": {"f": None}}),
        ("", VALUE, None),
        (0, VALUE, None),
        ([], VALUE, []),
        ([None, {"v": 1}], VALUE, [{}, {"f": 1}]),
    ],
)  # fmt: skip
def test_a_record_is_mapped_as_the_published_runtime_does(record: Any, field: dict[str, Any], expected: Any) -> None:
    assert mapped(record, field) == expected


def test_a_list_of_one_stays_a_list_in_lenient_mode() -> None:
    field = {**VALUE, "expression": "$.list[*].n", "array": True}
    assert mapped({"list": FEW[:1]}, field) == {"f": "x"}
    assert mapped({"list": FEW[:1]}, field, strict=False) == {"f": ["x"]}
    assert mapped({"list": FEW}, field, strict=False) == {"f": ["x", "y"]}
    assert mapped({"v": None}, {**VALUE, "array": True}, strict=False) == {"f": None}


@pytest.mark.parametrize(
    ("kind", "array", "given", "expected"),
    [
        ("number", False, "1e3", 1000),
        ("number", False, "x", None),
        ("number", False, [], 0),
        ("number", False, [5], 5),
        ("number", False, [1, 2], None),
        ("number", True, ["1", "x"], ["1", "x"]),
        ("boolean", False, [], True),
        ("boolean", True, ["false"], ["false"]),
        ("boolean", False, "no", True),
        ("boolean", False, "0", False),
        ("string", False, [1, 2], "1,2"),
        ("string", False, {"a": 1}, '{"a":1}'),
        ("datetime_string", False, "31/12/2024", "2024-12-31T00:00:00.000Z"),
        ("datetime_string", False, "12/31/2024", "2024-12-31T00:00:00.000Z"),
        ("datetime_string", False, "2024-31-12", "2024-12-31T00:00:00.000Z"),
        ("datetime_string", False, [1], None),
        ("datetime_string", False, 1700000000, None),
        ("string", False, "", None),
        ("string", False, None, None),
    ],
)
def test_a_value_is_cast_as_the_published_runtime_does(kind: str, array: bool, given: Any, expected: Any) -> None:
    found = cast({"f": given, "g": 1}, {"targetFieldKey": "f", "type": kind, "array": array})
    assert found == {"f": expected, "g": 1} and type(found["f"]) is type(expected)


def test_what_is_absent_is_not_cast() -> None:
    assert cast({"g": 1}, {"targetFieldKey": "f", "type": "number"}) == {"g": 1}
    assert UNDEFINED not in mapped({}, VALUE).values()
