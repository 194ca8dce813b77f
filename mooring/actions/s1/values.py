"""Evaluate trees of the format's expressions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mooring.connectors.s1.expressions import S1Expression
from mooring.protocol.expression_values import truthy
from mooring.protocol.expressions import UNDEFINED, ExpressionError
from mooring.protocol.oauth2 import dig


def fill(tree: Any, scope: Mapping[str, Any]) -> Any:
    """Evaluate a tree, UNDEFINED for nothing; inside of objects and lists what is undefined is left out."""
    if isinstance(tree, S1Expression):
        return tree.safe(scope)
    if isinstance(tree, Mapping):
        filled = {key: fill(value, scope) for key, value in tree.items()}
        return {key: value for key, value in filled.items() if value is not UNDEFINED}
    if isinstance(tree, list):
        return [value for item in tree if (value := fill(item, scope)) is not UNDEFINED]
    return tree


def holds(condition: S1Expression | None, scope: Mapping[str, Any], *, strict: bool) -> bool:
    """Whether a condition is fulfilled: exactly `true` in strict mode. Raises ExpressionError."""
    if condition is None:
        return True
    value = condition.evaluate(scope)
    return value is True if strict else truthy(value) and value is not UNDEFINED


def read(data: Any, path: str | None, scope: Mapping[str, Any]) -> Any:
    """What stands at a `dataKey` or `nextKey`: a dotted path, with or without `$.`, or an expression of the answer."""
    if path is None:
        return data
    text = path.strip()
    if text.startswith(("{{", "${")) or "[" in text or ".." in text or text.endswith(".length"):
        from mooring.connectors.s1.expressions import compile_s1

        inside = dict(data) if isinstance(data, Mapping) else {}
        try:
            value = compile_s1(text if text.startswith(("{{", "$")) else f"$.{text}", strict=False).evaluate(
                {**scope, **inside}
            )
        except ExpressionError:
            return None
        return None if value is UNDEFINED else value
    return dig(data, text.removeprefix("$.").removeprefix("$"))
