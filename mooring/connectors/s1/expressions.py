"""The three expression forms of `.s1.yaml` files: `$.a.b` (JSONPath), `a/${b}/c` (interpolation), `{{ a + b }}` (JEXL).

Strict mode does what the original engine does, oddities included. Lenient mode differs where the original loses data: a
placeholder without a value makes the whole text undefined instead of staying in it, methods such as `.toLowerCase()` work,
objects may have quoted keys, and `[…]` or `{…}` without `{{ }}` is read as JEXL. Each such case is named in `leniencies`.

Nothing here can reach Python: paths and names look into mappings, lists and texts only; size and depth are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from mooring.connectors.s1.functions import function_table, method_table
from mooring.connectors.s1.jsonpath import compile_path
from mooring.protocol.expression_lexer import ExpressionError, Token, tokenize
from mooring.protocol.expression_values import MAX_TEXT, UNDEFINED, to_text
from mooring.protocol.expressions import MAX_LENGTH, Expression, compile_expression

__all__ = ["UNDEFINED", "Placeholder", "S1Expression", "compile_s1"]

MAX_SOURCE: Final = 64 * 1024  # characters of one text

Scope = Mapping[str, Any]
Run = Callable[[Scope], Any]

_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_REFERENCE = re.compile(r"\b(inputs|credentials|steps|context)(?:\.|\[['\"]?)([A-Za-z_][\w-]*)")
_PIPE = re.compile(r"(?<!\|)\|(?!\|)")
_PATH_START = re.compile(r"\$(?:[.\[]|\Z)")
_NO_PATH: Final = "this is no path: a `$` is followed by `.` or `[`; it is taken as it stands"
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One `${…}` of a text."""

    source: str
    run: Run = field(repr=False, compare=False)  # UNDEFINED when there is no value


@dataclass(frozen=True, slots=True)
class S1Expression:
    """A compiled text. One that is wrong has a `fault` and raises it when it is evaluated, as in the original."""

    source: str
    run: Run = field(repr=False, compare=False)
    is_constant: bool = False
    fault: str | None = None
    leniencies: tuple[str, ...] = ()
    references: frozenset[tuple[str, str]] = frozenset()  # ("inputs", "id") and the like
    parts: tuple[str | Placeholder, ...] = field(default=(), repr=False, compare=False)  # of an interpolation

    def evaluate(self, scope: Scope) -> Any:
        """Return the value, UNDEFINED for nothing. Raises ExpressionError; for conditions and mapped fields."""
        return self.run(scope)

    def safe(self, scope: Scope) -> Any:
        """Return the value, None instead of an error; for the parameters of steps."""
        try:
            return self.run(scope)
        except ExpressionError:
            return None


@lru_cache(maxsize=16_384)
def compile_s1(text: str, *, strict: bool) -> S1Expression:
    """Compile a text of any of the forms, or none. Never raises."""
    trimmed = text.strip()
    if len(text) > MAX_SOURCE:
        return _broken(text, f"a text with expressions may have {MAX_SOURCE} characters, this one has {len(text)}")
    if not trimmed:
        return _broken(text, "the expression is empty") if strict else _constant(text)
    braced = len(trimmed) >= 4 and trimmed.startswith("{{") and trimmed.endswith("}}")
    inner = trimmed[2:-2] if braced else ""
    body = (inner if braced else trimmed).replace("$.", "").strip()
    references = frozenset(_REFERENCE.findall(body))
    if _PLACEHOLDER.search(body, 0, body.rfind("}") + 1):  # else each `${` would be followed to the end of the text
        return _interpolation(text, trimmed, body, references, strict=strict)
    notes: list[str] = []
    try:
        if not inner and trimmed.startswith("$"):
            if not strict and not _PATH_START.match(trimmed):
                return S1Expression(text, lambda _scope: text, is_constant=True, leniencies=(_NO_PATH,))
            return S1Expression(text, compile_path(trimmed), references=references)
        if not inner:
            if strict or not _looks_like_a_literal(trimmed):
                return _constant(text)
            notes.append("a list or object outside of `{{ }}` is read as an expression")
        run, more = _jexl(body, strict=strict)
    except ExpressionError as error:
        if notes:  # it only looked like one
            return _constant(text)
        return _broken(text, error.problem, references)
    return S1Expression(text, run, leniencies=(*notes, *more), references=references)


def _constant(text: str) -> S1Expression:
    return S1Expression(text, lambda _scope: text, is_constant=True)


def _broken(text: str, problem: str, references: frozenset[tuple[str, str]] = frozenset()) -> S1Expression:
    def run(_scope: Scope) -> Any:
        raise ExpressionError(problem, 0)

    return S1Expression(text, run, fault=problem, references=references)


def _looks_like_a_literal(text: str) -> bool:
    bracketed = (text[0], text[-1]) in {("[", "]"), ("{", "}")}
    return bracketed and "$." in text


def _jexl(body: str, *, strict: bool) -> tuple[Run, list[str]]:
    """Compile the inside of `{{ }}`. What fails at run time is undefined. Raises ExpressionError for bad syntax."""
    notes: list[str] = []
    if not body:
        return (lambda _scope: UNDEFINED), notes
    if len(body) > MAX_LENGTH:
        raise ExpressionError(f"an expression may have {MAX_LENGTH} characters, this one has {len(body)}", 0)
    if _PIPE.search(_STRING.sub("", body)):
        notes.append("there are no transforms (`a|b`): the value is undefined")
        return (lambda _scope: UNDEFINED), notes
    if _has_quoted_keys(tokenize(body)):
        if strict:
            raise ExpressionError("the keys of an object stand without quotes", 0)
        notes.append("the keys of an object stand without quotes; they are accepted")
    functions, methods = function_table(), method_table(strict=strict)
    expression = compile_expression(body, functions, methods)
    notes += [f"there is no function `{name}`: its value is undefined" for name in functions.unknown]
    notes += [f"methods do not exist: `.{name}()` is undefined" for name in methods.unknown]
    notes += [f"methods do not exist; `.{name}()` is understood" for name in methods.used]

    def run(scope: Scope) -> Any:
        try:
            return expression.evaluate(scope)
        except ExpressionError:
            return UNDEFINED

    return run, notes


def _has_quoted_keys(tokens: list[Token]) -> bool:
    triples = zip(tokens, tokens[1:], tokens[2:], strict=False)
    return any(a.text in ("{", ",") and b.kind == "string" and c.text == ":" for a, b, c in triples)


def _interpolation(
    text: str, trimmed: str, body: str, references: frozenset[tuple[str, str]], *, strict: bool
) -> S1Expression:
    parts: list[str | Placeholder] = []
    at = 0
    for match in _PLACEHOLDER.finditer(body, 0, body.rfind("}") + 1):
        if match.start() > at:
            parts.append(body[at : match.start()])
        at = match.end()
        inner = match[1].strip()
        parts.append(Placeholder(match[1], _placeholder(inner)) if inner else match[0])
    if at < len(body):
        parts.append(body[at:])

    def run(scope: Scope) -> Any:
        out = []
        for part in parts:
            if isinstance(part, str):
                out.append(part)
                continue
            value = part.run(scope)
            if value is not UNDEFINED:
                out.append(to_text(value))
            elif strict:
                out.append("${" + part.source + "}")
            else:
                return UNDEFINED
        joined = "".join(out)
        if len(joined) > MAX_TEXT:
            raise ExpressionError(f"the text would have more than {MAX_TEXT} characters", 0)
        if not joined and strict:
            return _of_nothing(trimmed, text)
        return joined

    return S1Expression(text, run, references=references, parts=tuple(parts))


def _of_nothing(trimmed: str, text: str) -> Any:
    """What the original does with an interpolation whose result is empty: it goes on to the other forms."""
    if trimmed.startswith("$"):
        raise ExpressionError("not a JSONPath", 0)
    return text if not trimmed.startswith("{{") else UNDEFINED


def _placeholder(inner: str) -> Run:
    """Compile what stands in `${ }`: JEXL first, and a path where that has no value."""
    first: Expression | None = None
    second: Callable[[Any], Any] | None = None
    with suppress(ExpressionError):
        first = compile_expression(inner, function_table(), method_table(strict=True))
    with suppress(ExpressionError):
        second = compile_path(f"$.{inner}")

    def run(scope: Scope) -> Any:
        value: Any = UNDEFINED
        if first is not None:
            try:
                value = first.evaluate(scope)
            except ExpressionError:
                value = UNDEFINED
        if value is UNDEFINED and second is not None:
            try:
                value = second(scope)
            except ExpressionError:
                return UNDEFINED
            if value is None:
                return UNDEFINED
        return value

    return run
