"""Values and operators of the expression language, with JavaScript's loose rules."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

MAX_TEXT: Final = 16 * 1024 * 1024  # characters in any text that an expression builds
MAX_LIST_DEPTH: Final = 50  # a provider's answer must not exhaust the stack
_NUMERIC = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EXPONENT: Final = re.compile(r"e([+-])0+(?=\d)")
_EXACT = 2**53  # integers beyond this are not exact in JavaScript

Number = int | float


class Undefined(Enum):
    """The type of `UNDEFINED`: what a name, member or function yields when there is nothing."""

    UNDEFINED = "undefined"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = Undefined.UNDEFINED


def is_missing(value: Any) -> bool:
    """Tell whether `??` and `missing()` take the value for absent: undefined, null or empty text."""
    return value is UNDEFINED or value is None or value == ""


def truthy(value: Any) -> bool:
    """Return JavaScript's truth of the value: lists and objects are true even when empty."""
    if isinstance(value, list | Mapping):
        return True
    if isinstance(value, float):
        return value != 0 and not math.isnan(value)
    return bool(value)


def to_number(value: Any) -> Number:
    """Return the value as a number, NaN when it is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    if not isinstance(value, str):
        return math.nan
    text = value.strip()
    if not text:
        return 0
    return _tidy(float(text)) if _NUMERIC.fullmatch(text) else math.nan


def to_text(value: Any, _depth: int = 0) -> str:
    """Return the value as JavaScript would join it to a string. Lists nested beyond reason become nothing."""
    if isinstance(value, str):
        return value
    if value is UNDEFINED:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**21 else _float_text(_as_float(value))
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, list):
        kept = value if _depth < MAX_LIST_DEPTH else []
        return ",".join("" if item is None or item is UNDEFINED else to_text(item, _depth + 1) for item in kept)
    return "[object Object]" if isinstance(value, Mapping) else str(value)


def member(value: Any, key: Any) -> Any:
    """Return `value.key` or `value[key]`; a name asked of a list is asked of its first element (JEXL)."""
    if isinstance(value, dict):
        return value.get(key if isinstance(key, str) else to_text(key), UNDEFINED)
    if isinstance(value, list | str):
        if key == "length":
            return len(value)
        if isinstance(key, int) and not isinstance(key, bool):
            return value[key] if 0 <= key < len(value) else UNDEFINED
        return member(value[0], key) if isinstance(value, list) and value else UNDEFINED
    if isinstance(value, Mapping):
        return value.get(key if isinstance(key, str) else to_text(key), UNDEFINED)
    return UNDEFINED


def element(value: Any, key: Any) -> Any:
    """Return `value[key]` for a computed key. `true` keeps the value, `false` drops it (JEXL)."""
    if key is True:
        return value
    if key is False or (isinstance(value, list) and isinstance(key, str)):
        return UNDEFINED
    return member(value, _tidy(key) if isinstance(key, float) else key)


def loose_equal(left: Any, right: Any) -> bool:
    """Compare as `==` does in JavaScript: `1 == "1"`, `null == undefined`."""
    if left is None or left is UNDEFINED or right is None or right is UNDEFINED:
        return (left is None or left is UNDEFINED) and (right is None or right is UNDEFINED)
    if isinstance(left, list | Mapping) and isinstance(right, list | Mapping):
        return left is right
    left = to_text(left) if isinstance(left, list | Mapping) else left
    right = to_text(right) if isinstance(right, list | Mapping) else right
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return to_number(left) == to_number(right)


def contains(item: Any, container: Any) -> bool:
    """Evaluate `item in container` for text and lists; list elements are compared without conversion."""
    if isinstance(container, str):
        return to_text(item) in container
    if not isinstance(container, list):
        return False
    return any(_same(item, other) for other in container)


def add(left: Any, right: Any) -> Any:
    """Evaluate `+`: text when either side is text, a list or an object, else a sum."""
    if isinstance(left, str | list | Mapping) or isinstance(right, str | list | Mapping):
        text = to_text(left) + to_text(right)
        if len(text) > MAX_TEXT:
            raise OverflowError
        return text
    if left is UNDEFINED or right is UNDEFINED:
        return math.nan
    return _arithmetic(operator.add)(left, right)


def coalesce(left: Any, right: Any) -> Any:
    """Evaluate `??`: the right side when the left is missing."""
    return right if is_missing(left) else left


def _tidy(value: Number) -> Number:
    """Return an integral float as an int, so that `4 / 2` prints as 2."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 10**21:
        return str(int(value))
    return _EXPONENT.sub(r"e\1", repr(value))  # JavaScript writes no zero before an exponent


def _same(left: Any, right: Any) -> bool:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if numbers and not isinstance(left, bool) and not isinstance(right, bool):
        return bool(left == right)
    return type(left) is type(right) and bool(left == right)


def _arithmetic(function: Callable[[float, float], float]) -> Callable[[Any, Any], Number]:
    """Wrap an operation on floats: bounded in time and size, and never an exception."""

    def run(left: Any, right: Any) -> Number:
        try:
            return _tidy(float(function(float(to_number(left)), float(to_number(right)))))
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan

    return run


def _divide(left: float, right: float) -> float:
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    return left / right


def _floor_divide(left: float, right: float) -> float:
    result = _divide(left, right)
    return result if math.isinf(result) or math.isnan(result) else math.floor(result)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return compare(left, right)
        return compare(to_number(left), to_number(right))

    return run


PRECEDENCE: Final[Mapping[str, int]] = {
    "??": 0,
    "&&": 10,
    "||": 10,  # as in JEXL, && and || bind equally; write parentheses
    "==": 20,
    "!=": 20,
    ">": 20,
    ">=": 20,
    "<": 20,
    "<=": 20,
    "in": 20,
    "+": 30,
    "-": 30,
    "*": 40,
    "/": 40,
    "//": 40,
    "%": 50,
    "^": 50,
}
OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "??": coalesce,
    "==": loose_equal,
    "!=": lambda left, right: not loose_equal(left, right),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    "in": contains,
    "+": add,
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(_divide),
    "//": _arithmetic(_floor_divide),
    "%": _arithmetic(math.fmod),
    "^": _arithmetic(math.pow),
}
