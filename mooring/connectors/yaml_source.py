"""Read YAML into plain values while keeping the line and column of every key and value.

The resolver follows the JSON-like core of YAML 1.2: `true`, `false`, `null`, decimal numbers, and text for
all else. So `no` stays text, and so do `12:30`, `2024-01-01` and `007`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

Location = tuple[str | int, ...]
MAX_DEPTH: Final = 40
MAX_NODES: Final = 50_000  # aliases are expanded; this bounds what a small file can grow to

_BOOL, _INT, _FLOAT, _NULL, _STR = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "str"))
_RESOLVERS = (
    (_NULL, re.compile(r"null|~|"), ("n", "~", "")),
    (_BOOL, re.compile(r"true|false"), ("t", "f")),
    (_INT, re.compile(r"-?(?:0|[1-9][0-9]{0,17})"), tuple("-0123456789")),
    (_FLOAT, re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}"), tuple("-0123456789")),
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C parser where it is built
    """Composes nodes only; nothing is ever constructed from tags."""

    yaml_implicit_resolvers: Mapping[str, Any] = {}


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern.pattern})\Z"), list(_first))


class Position(NamedTuple):
    """A place in the file, both counted from 1."""

    line: int
    column: int


class Fault(NamedTuple):
    """Something wrong at a place of the tree. `on_key` points at the key instead of the value."""

    location: Location
    message: str
    on_key: bool = False


@dataclass(slots=True)
class Source:
    """The values of a YAML file, and where each stands."""

    data: Any = None
    keys: dict[Location, Position] = field(default_factory=dict)
    values: dict[Location, Position] = field(default_factory=dict)
    faults: list[tuple[Position, str]] = field(default_factory=list)

    def position(self, location: Iterable[str | int], *, on_key: bool = False) -> Position:
        """Return the nearest known place; parts of `location` that are not in the tree are skipped."""
        known: Location = ()
        for part in location:
            if (*known, part) in self.values:
                known = (*known, part)
        if on_key and known in self.keys:
            return self.keys[known]
        return self.values.get(known, Position(1, 1))


def read_yaml(text: str, *, max_nodes: int = MAX_NODES) -> Source:
    """Parse one YAML document of at most `max_nodes` values. What is wrong with it stands in `faults`."""
    source = Source()
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        source.faults.append((place, f"not YAML: {error.problem or error.context}"))
        return source
    except yaml.reader.ReaderError as error:
        source.faults.append((Position(1, 1), f"not YAML: {error.reason}"))
        return source
    except UnicodeEncodeError:
        source.faults.append((Position(1, 1), "not YAML: half a surrogate pair"))
        return source
    _Builder(source, max_nodes).build(node)
    return source


class _Builder:
    def __init__(self, source: Source, max_nodes: int) -> None:
        self._source = source
        self._max_nodes = max_nodes
        self._nodes = 0

    def build(self, node: yaml.Node | None) -> None:
        if node is not None:
            self._source.data = self._value(node, ())

    def _value(self, node: yaml.Node, at: Location) -> Any:
        self._nodes += 1
        place = _position(node)
        self._source.values[at] = place
        if self._nodes > self._max_nodes or len(at) > MAX_DEPTH:
            if not self._source.faults:
                self._source.faults.append((place, "the file is too large or too deeply nested"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*at, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in node.value:
            place = _position(key)
            if not isinstance(key, yaml.ScalarNode):
                self._source.faults.append((place, "a key must be plain text"))
                continue
            name = str(key.value)
            if name in out:
                first = self._source.keys[*at, name]
                problem = f"the key `{name}` is given twice; the first stands in line {first.line}"
                self._source.faults.append((place, problem))
                continue
            self._source.keys[*at, name] = place
            out[name] = self._value(value, (*at, name))
        return out

    def _scalar(self, node: yaml.Node, place: Position) -> Any:
        text = str(node.value)
        if node.tag == _STR:
            return text
        if not _fits(node.tag, text):  # a tag that was written, such as `!!int abc`
            self._source.faults.append((place, f"the tag `{node.tag}` does not fit its value"))
            return None
        if node.tag == _INT:
            return int(text)
        if node.tag == _FLOAT:
            return float(text)
        if node.tag == _BOOL:
            return text == "true"
        if node.tag == _NULL:
            return None
        self._source.faults.append((place, f"the tag `{node.tag}` is not supported"))
        return None


def _fits(tag: str, text: str) -> bool:
    pattern = next((pattern for known, pattern, _ in _RESOLVERS if known == tag), None)
    return pattern is None or pattern.fullmatch(text) is not None or (tag == _NULL and not text)


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
