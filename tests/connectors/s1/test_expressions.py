"""The expressions of `.s1.yaml` files: the documented result of every form, in strict and in lenient mode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.connectors.s1.expressions import UNDEFINED, compile_s1
from mooring.protocol.expression_lexer import ExpressionError

THROWS = object()
INPUTS: dict[str, Any] = {
    "a": 1,
    "z": 0,
    "e": "",
    "n": None,
    "s": "x y",
    "arr": [1, 2],
    "one": [7],
    "empty": [],
    "list": [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}],
}
SCOPE: dict[str, Any] = {
    "inputs": INPUTS,
    "s": "abc",
    "list": INPUTS["list"],
    "x": [1, 2, 3],
    "obj": {"k": 1},
    "h": {"a-b": 3, "@_x:y": 4, "s:Envelope": 5},
    "credentials": {"p": "pa$$w$&rd"},
}
VECTORS = [
    # JSONPath
    ("$.inputs.a", 1),
    ("$.inputs.missing", UNDEFINED),
    ("$.inputs.n", None),
    ("$.inputs.one[*]", 7),
    ("$.inputs.arr[*]", [1, 2]),
    ("$.inputs.empty[*]", UNDEFINED),
    ("$.inputs.arr", [1, 2]),
    ("$.inputs.list[?(@.id==2)]", {"id": 2, "t": "b"}),
    ("$.inputs.list[?(@.t === 'b')].id", 2),
    ("$.inputs.list[?(@.id >= $.inputs.a)].id", [1, 2]),
    ("$.inputs.list[?(@.t == ']')]", UNDEFINED),
    ("$.inputs.list.length", 2),
    ("$[inputs][a]", 1),
    ("$['inputs']['a']", 1),
    ("$.inputs[a,s]", [1, "x y"]),
    ("$.inputs['a','s']", [1, "x y"]),
    ("$.x[-1:]", 3),
    ("$.x[0:2]", [1, 2]),
    ("$.x[(@.length-1)]", 3),
    ("$.x[9]", UNDEFINED),
    ("$..id", [1, 2, 1, 2]),
    ("$..t[0]", ["a", "b", "a", "b"]),
    ("$.h.a-b", 3),
    ("$.h['@_x:y']", 4),
    ("$.h.['s:Envelope']", 5),
    ("$.obj.*", 1),
    ("$", SCOPE),
    ("  $.inputs.a  ", 1),
    ("$.a b", THROWS),
    ("$.a[1", THROWS),
    ("$.x[::0]", THROWS),
    # interpolation
    ("${inputs.a}", "1"),
    ("a/${inputs.n}/b", "a/null/b"),
    ("${inputs.arr}", "1,2"),
    ("${obj}", "[object Object]"),
    ('${inputs.x ?? "d"}', "d"),
    ("${$.inputs.a + 1}", "2"),
    ("{{${inputs.a}}}", "1"),
    ("${h.a-b}", "NaN"),
    ("${ }/${inputs.a}", "${ }/1"),
    ("${inputs.list[?(@.id==2)].t}", "b"),
    ("${credentials.p}", "pa$$w$&rd"),  # the original spoils values with `$$` and `$&`
    # JEXL
    ("x {{inputs.a}}", "x {{inputs.a}}"),
    ("plain", "plain"),
    ('{{present("")}}', True),
    ('{{missing("")}}', True),
    ("{{present(inputs.n)}}", False),
    ("{{missing($.inputs.n)}}", True),
    ('{{inputs.e ?? "d"}}', "d"),
    ('{{inputs.z ?? "d"}}', 0),
    ('{{1 == "1"}}', True),
    ("{{0 == false}}", True),
    ('{{"a"+1}}', "a1"),
    ("{{inputs.list.id}}", 1),
    ("{{inputs.list[.id == 2].t}}", "b"),
    ("{{list[.id > 0]}}", INPUTS["list"]),
    ("{{inputs.list[.id == inputs.a][0].t}}", "a"),
    ('{{"price $.x"}}', "price x"),
    ('{{"$format"}}', "$format"),
    ("{{unknownFn(1)}}", UNDEFINED),
    ("{{s|upper}}", UNDEFINED),
    ("{{}}", "{{}}"),
    ("{{inputs.a ? 'y' : 'n'}}", "y"),
    ("{{inputs.e ?: 'n'}}", "n"),
    ("{{inputs.a > 0 && inputs.z == 0}}", True),
    ("{{ {k: inputs.a} }}", {"k": 1}),
    ("{{includes(inputs.arr, 2)}}", True),
    ("{{includesSome(inputs.arr, [2, 9])}}", True),
    ("{{keys(obj)}}", ["k"]),
    ("{{values(obj)}}", [1]),
    ("{{keys(inputs.arr)}}", []),
    ("{{present()}}", False),
    ('{{encodeBase64("a:b")}}', "YTpi"),
    ('{{yearsElapsed("01/01/2000", "dd/MM/yyyy", "31/12/2010")}}', 10),
    ('{{yearsElapsed("31/12/2000", "dd/MM/yyyy", "01/01/2010")}}', 9),
    ('{{yearsElapsed("nonsense", "dd/MM/yyyy")}}', None),
    ('{{hasPassed("2001-02-03", "yyyy-MM-dd")}}', True),
    ('{{hasPassed("2001-02-03", "yyyy-MM-dd", 900)}}', False),
    ('{{nextAnniversary("nonsense", "yyyy-MM-dd")}}', None),
    ("{{a +}}", THROWS),
    ("{{'open}}", THROWS),
]
DIFFERENCES = [  # text, strict result, lenient result, word of the leniency
    ("a/${inputs.missing}/b", "a/${inputs.missing}/b", UNDEFINED, None),
    ("${inputs.e}", THROWS, "", None),
    ("", THROWS, "", None),
    ("$5.00", THROWS, "$5.00", "no path"),
    ("$name", THROWS, "$name", "no path"),
    ("$_x", THROWS, "$_x", "no path"),
    ("{{s.toUpperCase()}}", UNDEFINED, "ABC", "toUpperCase"),
    ('{{$.inputs.s.split(" ")[0]}}', UNDEFINED, "x", "split"),
    ('{{{"city": $.s}}}', THROWS, {"city": "abc"}, "without quotes"),
    ("[$.inputs.a]", "[$.inputs.a]", [1], "outside of"),
]


def outcome(text: str, *, strict: bool) -> Any:
    try:
        return compile_s1(text, strict=strict).evaluate(SCOPE)
    except ExpressionError:
        return THROWS


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
@pytest.mark.parametrize(("text", "expected"), VECTORS, ids=[text for text, _ in VECTORS])
def test_the_documented_results(text, expected, strict):
    found = outcome(text, strict=strict)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("text", "strict", "lenient", "word"), DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_where_lenient_mode_differs(text, strict, lenient, word):
    assert outcome(text, strict=True) == strict
    assert outcome(text, strict=False) == lenient
    assert word is None or any(word in note for note in compile_s1(text, strict=False).leniencies)


def test_what_throws_is_null_where_the_parameters_of_a_step_are_read():
    assert compile_s1("$.a b", strict=True).safe(SCOPE) is None
    assert compile_s1("$.a b", strict=True).fault == "not a JSONPath"


def test_an_anniversary_lies_within_a_year():
    found = compile_s1('{{nextAnniversary("1990-02-29", "yyyy-MM-dd")}}', strict=True).evaluate({})
    assert found is None  # 1990 had no such day
    found = compile_s1('{{nextAnniversary("1992-02-29", "yyyy-MM-dd")}}', strict=True).evaluate({})
    assert found.endswith(("-02-29T00:00:00.000Z", "-03-01T00:00:00.000Z"))


def test_an_expression_says_what_it_refers_to():
    assert compile_s1("{{$.inputs.a && credentials['b']}}", strict=True).references == {
        ("inputs", "a"),
        ("credentials", "b"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "{{" + "(" * 500 + "1" + ")" * 500 + "}}",
        "{{" + "!" * 2000 + "1}}",
        "{{" + "1+" * 2000 + "1}}",
        "$" + ".a" * 20_000,
        "$" + "[?(@" * 100 + "]" * 100,
        "${" * 5000,
        "x" * 100_000,
    ],
    ids=["parentheses", "negations", "sums", "members", "filters", "openings", "length"],
)
def test_hostile_texts_end_in_a_value_or_an_error(text):
    outcome(text, strict=True)
    outcome(text, strict=False)


def test_a_path_that_looks_at_too_much_is_stopped():
    wide: dict[str, Any] = {"a": [[[0] * 100 for _ in range(100)] for _ in range(100)]}
    with pytest.raises(ExpressionError, match="looks at more than"):
        compile_s1("$..*", strict=True).evaluate(wide)


@pytest.mark.parametrize(
    "text", ["{{a.__class__}}", "$.a.__class__", "${a.__init__.__globals__}", "{{a['__class__']}}"]
)
def test_python_is_out_of_reach(text):
    for strict in (True, False):
        assert outcome(text.replace("a", "obj", 1), strict=strict) in (UNDEFINED, text.replace("a", "obj", 1))


@given(st.text(alphabet="$.{}[]()?@*'\"ab01 ,:|&!=<>+-/inputs", max_size=60))
def test_no_text_makes_the_compiler_fail(text):
    for strict in (True, False):
        compile_s1(text, strict=strict).safe(SCOPE)
