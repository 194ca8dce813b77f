"""Write connector files: YAML as people write it, checked before it is written, and never half."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError

WIDTH = 120


def dumped(value: Any) -> str:
    """A value as YAML in the order of its keys."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False)


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


def write_whole(path: Path, text: str) -> None:
    """Write a file, or nothing of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


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
