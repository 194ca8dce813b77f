"""Write an imported connector as YAML, and compare it with the file of an earlier import."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mooring.connectors.loader import load_file
from mooring.connectors.openapi.importer import Imported
from mooring.connectors.problem import ConnectorFileError

WIDTH = 120


def as_text(imported: Imported, *, source: str, raw: bytes) -> str:
    """The file: where it came from, what to look at, and the connector."""
    head = [
        "# yaml-language-server: $schema=connector.schema.json",
        f"# Imported from {source}, sha256 {hashlib.sha256(raw).hexdigest()}.",
    ]
    if imported.notes:
        head += ["# To look at:", *(f"# - {note}" for note in dict.fromkeys(imported.notes))]
    body = yaml.dump(
        imported.connector, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
    )
    return "\n".join(head) + "\n" + body


def problems_of(text: str, key: str) -> list[str]:
    """What the checks of connector files say of a text, with its lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{key}.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_file(path, builtin=False)
        except ConnectorFileError as e:
            return [str(problem).replace(str(path), path.name) for problem in e.problems]
    return []


def difference(old: str, new: str, name: str) -> str:
    """What an import would change in a file, as a unified diff; empty without a difference."""
    return "".join(_lines(old, new, name))


def _lines(old: str, new: str, name: str) -> Iterator[str]:
    return difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{name} (now)", f"{name} (imported)"
    )


class _Dumper(yaml.SafeDumper):
    """Short mappings stand on one line, as people write them."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _mapping(dumper: _Dumper, data: dict[str, Any]) -> yaml.Node:
    small = all(isinstance(v, str | int | bool | float) or v is None for v in data.values())
    length = sum(len(str(k)) + len(str(v)) + 4 for k, v in data.items())
    plain = small and length < WIDTH - 40 and len(data) <= 6 and "connector" not in data
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=plain)


def _sequence(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    small = all(isinstance(v, str | int | bool | float) for v in data)
    plain = small and sum(len(str(v)) + 2 for v in data) < WIDTH - 40
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _sequence)


def write_whole(path: Path, text: str) -> None:
    """Write a file, or nothing of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
