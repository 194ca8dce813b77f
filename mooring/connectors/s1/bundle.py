"""Read a `.s1.yaml` connector: its main file, and the partial files that `$ref` lines name.

`$ref: a.b` stands for the actions of `a.b.s1.partial.yaml` in the same folder. It is written as a (repeated) key below
`actions:`, as an item of that list, or at the top level; a partial is a list of actions, or has `actions:` around it. The
lines are taken out of the text before it is parsed, for a mapping with one key twice is no YAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mooring.connectors.problem import ConnectorFileError, Problem
from mooring.connectors.s1 import PARTIAL
from mooring.connectors.yaml_source import Location, Source, read_yaml

MAX_BYTES: Final = 8 << 20  # of one file
MAX_FILES: Final = 200
MAX_NODES: Final = 500_000  # values of one file

_REF = re.compile(r"""(?P<indent>\s*)(?:-\s+)?(?P<q>["']?)\$ref(?P=q)\s*:\s*(?P<name>.*?)\s*(?:\s#.*)?""")
_TOP_KEY = re.compile(r"""["']?([A-Za-z_$][\w$-]*)["']?\s*:""")
_REF_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class _Ref:
    name: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Where an action came from."""

    file: str
    source: Source
    at: Location


@dataclass(slots=True)
class Bundle:
    """The merged data of a connector; `problem` finds the file and the line of a location in it."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    faults: list[Problem] = field(default_factory=list)  # what YAML or the references have wrong, short of refusal
    _parts: list[_Part] = field(default_factory=list)

    def problem(self, at: Location, message: str, *, on_key: bool = False) -> Problem:
        """Say something about a place of the data."""
        if len(at) > 1 and at[0] == "actions" and isinstance(at[1], int) and at[1] < len(self._parts):
            part = self._parts[at[1]]
            return Problem(part.file, *part.source.position((*part.at, *at[2:]), on_key=on_key), message)
        return Problem(self.file, *self.source.position(at, on_key=on_key), message)

    def add_actions(self, file: str, source: Source, value: Any, at: Location) -> None:
        """Append the actions of one file."""
        if value is None:
            return
        if not isinstance(value, list):
            place = source.position(at)
            self.faults.append(Problem(file, *place, "actions are a list"))
            return
        for index, action in enumerate(value):
            self.data["actions"].append(action)
            self._parts.append(_Part(file, source, (*at, index)))


def read_bundle(path: Path) -> Bundle:
    """Read the main file and its partials. Raises ConnectorFileError when nothing can be made of them."""
    source, refs = _read(path, path.name)
    bundle = Bundle(str(path), source=source)
    bundle.faults += [Problem(str(path), *place, message) for place, message in source.faults]
    if not isinstance(source.data, dict):
        problems = bundle.faults or [
            Problem(str(path), 1, 1, "a connector file is a mapping with `info:` and `actions:`")
        ]
        raise ConnectorFileError(problems)
    bundle.data = {**source.data, "actions": []}
    bundle.add_actions(str(path), source, source.data.get("actions"), ("actions",))
    _include(bundle, path, refs, ())
    return bundle


def _include(bundle: Bundle, file: Path, refs: list[_Ref], above: tuple[str, ...]) -> None:
    for ref in refs:
        here = (str(file), ref.line, ref.column)
        if not _REF_NAME.fullmatch(ref.name):
            problem = f"`$ref` names a partial file of this folder, without any path; `{ref.name[:80]}` does not"
            raise ConnectorFileError([Problem(*here, problem)])
        if ref.name in above:
            raise ConnectorFileError([Problem(*here, f"`$ref: {ref.name}` leads back to itself")])
        if len(above) >= MAX_FILES or len(bundle.data["actions"]) > MAX_NODES:
            raise ConnectorFileError([Problem(*here, f"there are more than {MAX_FILES} partial files")])
        partial = file.with_name(ref.name + PARTIAL)
        if not partial.is_file():
            bundle.faults.append(Problem(*here, f"there is no file {partial.name} beside this one"))
            continue
        if partial.resolve().parent != file.parent.resolve():
            raise ConnectorFileError([Problem(*here, f"{partial.name} is a link that leaves this folder")])
        source, inner = _read(partial, partial.name)
        bundle.faults += [Problem(str(partial), *place, message) for place, message in source.faults]
        wrapped = isinstance(source.data, dict)
        value = source.data.get("actions") if isinstance(source.data, dict) else source.data
        bundle.add_actions(str(partial), source, value, ("actions",) if wrapped else ())
        _include(bundle, partial, inner, (*above, ref.name))


def _read(path: Path, name: str) -> tuple[Source, list[_Ref]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConnectorFileError([Problem(str(path), 1, 1, f"{name} has more than {MAX_BYTES >> 20} MiB")])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConnectorFileError([Problem(str(path), 1, 1, f"cannot be read: {reason}")]) from None
    refs, lines = _take_refs(text)
    source = read_yaml("\n".join(lines), max_nodes=MAX_NODES)
    return source, refs


def _take_refs(text: str) -> tuple[list[_Ref], list[str]]:
    """Take the `$ref` lines out of a text; every other line keeps its number."""
    refs: list[_Ref] = []
    lines = text.splitlines()
    top = ""
    indent: int | None = None  # of the first line below `actions:`
    for index, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0 and (key := _TOP_KEY.match(line)) is not None:
            top, indent = key[1], None
        elif top == "actions" and indent is None:
            indent = depth
        if depth and not (top == "actions" and depth == indent):
            continue
        match = _REF.fullmatch(line)
        if match is not None:
            refs.append(_Ref(match["name"].strip("\"'"), index + 1, depth + 1))
            lines[index] = ""
    return refs, lines
