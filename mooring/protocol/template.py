"""Text with `${ expression }` parts, as it stands in connector files: parsed once, rendered on every call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mooring.protocol.expressions import UNDEFINED, Expression, ExpressionError, compile_expression, to_text

__all__ = ["Template", "Unresolved", "compile_template"]


class Unresolved(LookupError):  # reads as what it says: a part stayed unresolved
    """A part of a template has no value. The message names the expression and never shows a value."""

    def __init__(self, expression: str) -> None:
        super().__init__(f"there is no value for ${{{expression}}}")
        self.expression = expression


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. Two of them are equal when their text is."""

    source: str
    parts: tuple[str | Expression, ...] = field(compare=False, repr=False)
    names: frozenset[str] = field(compare=False, repr=False)  # root identifiers of all parts
    is_constant: bool = field(compare=False, repr=False)

    def render(self, scope: Mapping[str, Any]) -> str:
        """Return the text. Raises Unresolved when any part is undefined or null."""
        if self.is_constant:
            return self.parts[0] if self.parts else ""  # type: ignore[return-value]
        out: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            value = part.run(scope, UNDEFINED)
            if isinstance(value, str):
                out.append(value)
            elif value is UNDEFINED or value is None:
                raise Unresolved(part.source)
            else:
                out.append(_text(value))
        return "".join(out)

    def value(self, scope: Mapping[str, Any]) -> Any:
        """Return the value: a single `${…}` keeps its type, UNDEFINED when a part of a text has no value."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0].evaluate(scope)
        try:
            return self.render(scope)
        except Unresolved:
            return UNDEFINED


def compile_template(value: str) -> Template:
    """Parse `value`; `$${` stands for a literal `${`. Raises ExpressionError with an offset in `value`."""
    parts: list[str | Expression] = []
    literal: list[str] = []
    at = 0
    while (found := value.find("${", at)) >= 0:
        if found > at and value[found - 1] == "$":
            literal.append(value[at : found - 1] + "${")
            at = found + 2
            continue
        literal.append(value[at:found])
        end = _closing_brace(value, found + 2)
        if text := "".join(literal):
            parts.append(text)
        literal.clear()
        parts.append(_part(value[found + 2 : end], found + 2))
        at = end + 1
    literal.append(value[at:])
    if text := "".join(literal):
        parts.append(text)
    expressions = [part for part in parts if isinstance(part, Expression)]
    names = frozenset[str]().union(*(expression.names for expression in expressions))
    return Template(value, tuple(parts), names, not expressions)


def _part(text: str, offset: int) -> Expression:
    try:
        return compile_expression(text)
    except ExpressionError as error:
        raise ExpressionError(error.problem, offset + error.offset) from None


def _closing_brace(value: str, start: int) -> int:
    """Return where the expression from `start` ends; braces in its strings and objects do not count."""
    depth, quote, at = 1, "", start
    while at < len(value):
        char = value[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ExpressionError("`${` is not closed", start - 2)


def _text(value: Any) -> str:
    """Return a value that is not text as text; objects become JSON, for there is no better text of them."""
    return json.dumps(value, separators=(",", ":"), default=str) if isinstance(value, dict) else to_text(value)
