"""Templates: where expressions end, what renders, what stays unresolved."""

from __future__ import annotations

import pytest

from mooring.protocol.expressions import UNDEFINED, ExpressionError
from mooring.protocol.template import Unresolved, compile_template

SCOPE = {"key": "s3cret", "n": 2, "none": None, "flag": True, "list": [1, 2], "o": {"a": 1}, "money": "pa$$w$&rd"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("Bearer ${key}", "Bearer s3cret"),
        ("${key}", "s3cret"),
        ("${key}${n}", "s3cret2"),
        ("a${n}b${ n + 1 }c", "a2b3c"),
        ("${flag}", "true"),
        ("${list}", "1,2"),
        ("${o}", '{"a":1}'),
        ("${n / 4}", "0.5"),
        ("${'}'}", "}"),
        ('${"a}b" + "\\"}"}', 'a}b"}'),
        ("${{x: n}.x}", "2"),
        ("${{x: {y: n}}.x.y}!", "2!"),
        ("$${key}", "${key}"),
        ("cost $5 {n} } $", "cost $5 {n} } $"),
        ("$$${key}", "$${key}"),
        ("a$${b}${n}", "a${b}2"),
        ("${money}", "pa$$w$&rd"),  # values are never read again as templates
        ("${'${n}'}", "${n}"),
    ],
)
def test_render(text, expected):
    assert compile_template(text).render(SCOPE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${n}", 2), ("${list}", [1, 2]), ("${flag}", True), ("${none}", None), ("x${n}", "x2"), ("x", "x")],
)
def test_a_single_expression_keeps_its_type(text, expected):
    assert compile_template(text).value(SCOPE) == expected


@pytest.mark.parametrize("text", ["${nothing}", "x${nothing}", "x${none}", "${o.b}"])
def test_value_of_something_unresolved_is_undefined(text):
    assert compile_template(text).value(SCOPE) is UNDEFINED


@pytest.mark.parametrize("text", ["${nothing}", "${none}", "${key}${o.missing}"])
def test_render_refuses_what_is_unresolved_and_shows_no_value(text):
    with pytest.raises(Unresolved) as caught:
        compile_template(text).render(SCOPE)
    assert caught.value.expression in text
    assert "s3cret" not in str(caught.value)


def test_names_and_constness():
    template = compile_template("https://${sub}.acme.com/${upper(path)}")
    assert template.names == {"sub", "path"}
    assert not template.is_constant
    assert compile_template("$${x}").is_constant
    assert compile_template("").is_constant


@pytest.mark.parametrize(
    ("text", "offset"),
    [("abc${", 3), ("abc${x", 3), ("${'}", 0), ("ab${}", 4), ("ab${x y}", 6), ("${ok} ${1 +}", 11), ("${{a: 1}", 0)],
)
def test_errors_carry_the_offset_in_the_whole_text(text, offset):
    with pytest.raises(ExpressionError) as caught:
        compile_template(text)
    assert caught.value.offset == offset


def test_templates_are_equal_by_their_text():
    assert compile_template("a${b}") == compile_template("a${b}")
    assert compile_template("a${b}") != compile_template("a${c}")
