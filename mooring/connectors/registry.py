"""The connectors that this instance knows: the shipped catalogue, and the operator's own folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from mooring.connectors.definition import Connector
from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError, Problem
from mooring.connectors.s1.bundle import PARTIAL
from mooring.connectors.s1.loader import SUFFIX, load_s1
from mooring.errors import ConfigurationError

CATALOG = Path(__file__).with_name("catalog")
_log = logging.getLogger(__name__)


class Registry(Mapping[str, Connector]):
    """Connectors by key. Never changes after it is made; iteration is sorted.

    `warnings` says what was understood in `.s1.yaml` files although it is not written so, or has no effect.
    """

    def __init__(self, connectors: Mapping[str, Connector], warnings: Iterable[Problem] = ()) -> None:
        self._connectors = MappingProxyType(dict(sorted(connectors.items())))
        self.warnings = tuple(warnings)

    def __getitem__(self, key: str) -> Connector:
        return self._connectors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._connectors)

    def __len__(self) -> int:
        return len(self._connectors)


def load_registry(extra_dir: Path | None = None) -> Registry:
    """Load the catalogue and the operator's folder.

    Raises ConnectorFileError with the faults of all files. A file of the folder can't take a shipped key: it
    would receive the shipped connector's client secrets and callback (rules O4, O5).
    """
    connectors: dict[str, Connector] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    files = [(path, True) for path in sorted(CATALOG.glob("*.yaml"))]
    files += [(path, False) for path in _extra_files(extra_dir)] if extra_dir else []
    for path, builtin in files:
        try:
            connector = _load_s1(path, extra_dir, warnings) if _is_s1(path) else load_file(path, builtin)
        except ConnectorFileError as error:
            problems += error.problems
            continue
        expected = path.parent.name if path.name == "connector.yaml" else path.stem
        taken = connectors.get(connector.key)
        if taken is not None:
            owner = "a shipped connector" if taken.builtin else taken.source
            message = f"the key `{connector.key}` belongs to {owner}; choose another key"
            problems.append(Problem(connector.source, 1, 1, message))
        elif connector.key != expected and not _is_s1(path):
            message = f"the file or folder of the connector `{connector.key}` must be called `{connector.key}`"
            problems.append(Problem(connector.source, 1, 1, message))
        else:
            connectors[connector.key] = connector
    if problems:
        raise ConnectorFileError(problems)
    if warnings:
        _log.warning("%d warnings of .s1.yaml files; `mooring connectors check` shows them", len(warnings))
    return Registry(connectors, warnings)


def _is_s1(path: Path) -> bool:
    return path.name.endswith(SUFFIX)


def _load_s1(path: Path, extra_dir: Path | None, warnings: list[Problem]) -> Connector:
    """Load a file as it is. In a folder of its own it is called as the folder: so it can stand beside a shipped one."""
    loaded = load_s1(path, key=path.parent.name if path.parent != extra_dir else None)
    warnings += loaded.warnings
    return loaded.connector


def _extra_files(folder: Path) -> list[Path]:
    """List `<key>.yaml` and `<key>/connector.yaml`, and `.s1.yaml` files in both places."""
    if not folder.is_dir():
        raise ConfigurationError(f"MOORING_CONNECTORS_DIR: {folder} is not a folder")
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        candidates = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in candidates:
            native = file.name == "connector.yaml" if path.is_dir() else file.suffix in (".yaml", ".yml")
            if _is_s1(file) or (native and not file.name.endswith(PARTIAL)):
                found.append(file)
    return found
