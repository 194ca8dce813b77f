"""JSONPath as `.s1.yaml` files write it, compiled to a walker: no evaluation of code, bounded in steps.

The dialect has dotted and bracketed names with or without quotes, `*`, `..`, indexes, slices, unions, filters such as
`[?(@.a == 1)]` and computed indexes such as `[(@.length-1)]`. A path with one match yields the match itself, a path
without any yields UNDEFINED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from mooring.protocol.expression_lexer import ExpressionError
from mooring.protocol.expression_values import UNDEFINED, truthy
from mooring.protocol.expressions import MAX_LENGTH, compile_expression

MAX_VISITS: Final = 200_000  # values that one path may look at

Step = Callable[[Any, Any], Iterable[Any]]  # (value, root) → what it leads to

_NAME = re.compile(r"[^.\[\]*?@(),:\s]+")
_INDEX = re.compile(r"\d{1,9}")
_SLICE = re.compile(r"(-?\d{1,9})?:(-?\d{1,9})?(?::(-?\d{1,9})?)?")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_STRINGS = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_REFUSED = re.compile(r"\$_|\$[^.\[]")


@lru_cache(maxsize=8192)
def compile_path(text: str) -> Callable[[Any], Any]:
    """Parse a path that begins with `$`. Raises ExpressionError; the result never raises but for MAX_VISITS."""
    spaced = " " in text and "[" not in text
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"a path may have {MAX_LENGTH} characters, this one has {len(text)}", 0)
    if not text.startswith("$") or _REFUSED.search(text) or spaced:
        raise ExpressionError("not a JSONPath", 0)
    steps = list(_steps(text))

    def run(root: Any) -> Any:
        found = [root]
        for step in steps:
            found = _bounded(step, found, root)
            if not found:
                return UNDEFINED
        return found[0] if len(found) == 1 else found

    return run


def _bounded(step: Step, values: list[Any], root: Any) -> list[Any]:
    out: list[Any] = []
    for value in values:
        for item in step(value, root):
            if len(out) >= MAX_VISITS:
                raise ExpressionError(f"the path looks at more than {MAX_VISITS} values", 0)
            out.append(item)
    return out


def _steps(text: str) -> Iterator[Step]:
    at = 1
    while at < len(text):
        if text.startswith("..", at):
            yield _descend
            at += 2
            if at < len(text) and text[at] not in "*[" and not _NAME.match(text, at):
                raise ExpressionError("a name is missing after `..`", at)
            if at < len(text) and text[at] == "[":
                continue
        elif text[at] == ".":
            at += 1
            if at < len(text) and text[at] == "[":  # `$.['a:b']` is the same as `$['a:b']`
                continue
        elif text[at] == "[":
            end = _closing(text, at)
            yield _bracket(text[at + 1 : end].strip(), at)
            at = end + 1
            continue
        if text.startswith("*", at):
            yield _children
            at += 1
            continue
        match = _NAME.match(text, at)
        if match is None:
            raise ExpressionError("a name is missing in the path", at)
        yield _member(match.group())
        at = match.end()


def _closing(text: str, start: int) -> int:
    """Return where the bracket that opens at `start` closes; brackets in strings do not count."""
    depth, at = 0, start
    while at < len(text):
        if (string := _STRINGS.match(text, at)) is not None:
            at = string.end()
            continue
        depth += (text[at] == "[") - (text[at] == "]")
        if depth == 0:
            return at
        at += 1
    raise ExpressionError("`[` is not closed", start)


def _bracket(inner: str, at: int) -> Step:
    if inner == "*":
        return _children
    if inner.startswith("?(") and inner.endswith(")"):
        return _filter(inner[2:-1], at)
    if inner.startswith("(") and inner.endswith(")"):
        return _computed(inner[1:-1], at)
    if (found := _SLICE.fullmatch(inner)) is not None:
        return _slice(*found.groups())
    steps = [_single(part.strip(), at) for part in _split(inner)]
    return steps[0] if len(steps) == 1 else _union(steps)


def _split(inner: str) -> Iterator[str]:
    """Split a union at the commas outside of quotes."""
    start = at = 0
    while at < len(inner):
        if (string := _QUOTED.match(inner, at)) is not None:
            at = string.end()
            continue
        if inner[at] == ",":
            yield inner[start:at]
            start = at + 1
        at += 1
    yield inner[start:]


def _single(part: str, at: int) -> Step:
    if (quoted := _QUOTED.fullmatch(part)) is not None:
        return _member(quoted[1] if quoted[1] is not None else quoted[2])
    if _INDEX.fullmatch(part):
        return _index(int(part))
    if not _NAME.fullmatch(part):
        raise ExpressionError("what stands in the brackets is no name, index, slice or filter", at)
    return _member(part)


def _member(name: str) -> Step:
    index = int(name) if _INDEX.fullmatch(name) else None

    def step(value: Any, _root: Any) -> Iterable[Any]:
        if isinstance(value, Mapping):
            return (value[name],) if name in value else ()
        if isinstance(value, list | str):
            if name == "length":
                return (len(value),)
            if index is not None and index < len(value):
                return (value[index],)
        return ()

    return step


def _index(index: int) -> Step:
    name = str(index)

    def step(value: Any, _root: Any) -> Iterable[Any]:
        if isinstance(value, list | str):
            return (value[index],) if index < len(value) else ()
        return (value[name],) if isinstance(value, Mapping) and name in value else ()

    return step


def _slice(start: str | None, stop: str | None, step: str | None) -> Step:
    stride = int(step) if step else 1
    if stride < 1:
        raise ExpressionError("the step of a slice is at least 1", 0)
    part = slice(int(start) if start else None, int(stop) if stop else None, stride)
    return lambda value, _root: value[part] if isinstance(value, list) else ()


def _union(steps: list[Step]) -> Step:
    return lambda value, root: (item for step in steps for item in step(value, root))


def _children(value: Any, _root: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _descend(value: Any, root: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += reversed(list(_children(current, root)))


def _script(text: str, at: int) -> Callable[[Any, Any], Any]:
    """Compile what stands in a filter: `@` is the element, `$` the whole document."""
    out, end = [], 0
    for string in [*_STRINGS.finditer(text), None]:
        plain = text[end : string.start() if string else len(text)]
        plain = plain.replace("===", "==").replace("!==", "!=").replace("!===", "!=")
        plain = re.sub(r"\$(?=[.\[])", "$root", plain).replace("@", "$item")
        out.append(plain + (string.group() if string else ""))
        end = string.end() if string else len(text)
    try:
        expression = compile_expression("".join(out))
    except ExpressionError as error:
        raise ExpressionError(f"the filter is not understood: {error.problem}", at) from None
    return lambda value, root: expression.evaluate({"$item": value, "$root": root})


def _filter(text: str, at: int) -> Step:
    keep = _script(text, at)
    return lambda value, root: (item for item in _children(value, root) if truthy(keep(item, root)))


def _computed(text: str, at: int) -> Step:
    index = _script(text, at)

    def step(value: Any, root: Any) -> Iterable[Any]:
        key = index(value, root)
        if isinstance(key, int) and not isinstance(key, bool):
            return _index(key)(value, root) if key >= 0 else ()
        return _member(key)(value, root) if isinstance(key, str) else ()

    return step
