"""The connectors that this instance knows: the shipped catalogue, and the operator's own folder."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, Self

from mooring.connectors.definition import Connector
from mooring.connectors.problem import ConnectorFileError, Problem
from mooring.connectors.s1 import PARTIAL, SUFFIX
from mooring.errors import ConfigurationError

CATALOG = Path(__file__).with_name("catalog")
PIN: Final = re.compile(r"latest|(0|[1-9]\d*)\.(?:x\.x|(0|[1-9]\d*)\.(?:x|(?:0|[1-9]\d*)))")
_log = logging.getLogger(__name__)


class Pinned(Protocol):
    """Whatever names a connector and, perhaps, a version of it: an auth config."""

    @property
    def connector_key(self) -> str: ...
    @property
    def connector_pinned_version(self) -> str | None: ...


class Registry(Mapping[str, Connector]):
    """Connectors by key; iteration is sorted, and what a key gives is the connector's newest version.

    Files of the catalogue are read when somebody asks for their connector: an instance uses a handful of hundreds, and
    should neither start later nor grow for the others. `warnings` says what was understood in `.s1.yaml` files although it
    is not written so, or has no effect. What it holds changes only by `replace`, which counts up `edition`.
    """

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        shipped: Mapping[str, Path] | None = None,
        warnings: Iterable[Problem] = (),
        older: Mapping[tuple[str, str], Connector | Path] | None = None,
    ) -> None:
        self.edition = 0
        self.warnings = tuple(warnings)
        self._shipped = dict(shipped or {})
        self._connectors = dict(connectors)
        self._older = dict(older or {})
        self._keys = tuple(sorted({*self._shipped, *self._connectors}))

    def replace(self, other: Registry) -> None:
        """Hold what the other one holds, in one step: nobody sees a half of each."""
        self.warnings, self._shipped, self._connectors = other.warnings, other._shipped, other._connectors
        self._older, self._keys = other._older, other._keys
        self.edition += 1

    def versions(self, key: str) -> list[str]:
        """Every version of a connector that there is, the newest first; empty for an unknown key."""
        current = self.get(key)
        if current is None:
            return []
        older = {version for name, version in self._older if name == key}
        return sorted({current.version, *older}, key=_order, reverse=True)

    def pinned(self, key: str, pin: str | None) -> Connector | None:
        """The newest version that fits a pin: none or `latest`, `1.x.x`, `1.2.x`, `1.2.0` (contract §2.5).

        None when the key is unknown, or no version fits.
        """
        current = self.get(key)
        if current is None or pin is None or pin == "latest":
            return current
        wanted = [part for part in pin.split(".") if part != "x"]
        for version in self.versions(key):
            if version.split(".")[: len(wanted)] == wanted:
                return current if version == current.version else self._version(key, version)
        return None

    def of(self, config: Pinned) -> Connector | None:
        """The connector of an auth config, in the version that it is pinned to."""
        return self.pinned(config.connector_key, config.connector_pinned_version)

    def _version(self, key: str, version: str) -> Connector:
        found = self._older[key, version]
        if isinstance(found, Path):
            found = self._older[key, version] = _load_shipped(found)
        return found

    def __getitem__(self, key: str) -> Connector:
        """The connector. Raises KeyError, and ConnectorFileError for a file of the catalogue that is damaged."""
        found = self._connectors.get(key)
        if found is None:
            found = self._connectors[key] = _load_shipped(self._shipped[key])
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._connectors or key in self._shipped

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def is_shipped(self, key: str) -> bool:
        """Whether a connector is of the catalogue, without reading its file."""
        return key in self._shipped

    @property
    def own(self) -> int:
        """How many connectors come from the operator's folder."""
        return len(self._keys) - len(self._shipped)

    async def complete(self) -> Self:
        """Read what was not read yet, without holding up the event loop for longer than one file takes."""
        for key in self._keys:
            if key not in self._connectors:
                self[key]
                await asyncio.sleep(0)
        return self


def load_registry(extra_dir: Path | None = None) -> Registry:
    """The catalogue and the operator's folder, whose files are all read and checked here.

    Raises ConnectorFileError with the faults of all files of the folder. A file of the folder can't take a shipped key:
    it would receive the shipped connector's client secrets and callback (rules O4, O5).
    """
    files = {path.stem: path for path in CATALOG.glob("*.yaml")}
    shipped = {stem: path for stem, path in files.items() if "@" not in stem}
    older: dict[tuple[str, str], Connector | Path] = {_split(stem): path for stem, path in files.items() if "@" in stem}
    own: dict[str, Connector] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for path in _extra_files(extra_dir) if extra_dir else ():
        try:
            connector = _load_s1(path, extra_dir, warnings) if _is_s1(path) else _load(path, builtin=False)
        except ConnectorFileError as error:
            problems += error.problems
            continue
        version = _split(_name(path))[1] if not _is_s1(path) else ""
        if connector.key in shipped or (not version and connector.key in own):
            owner = "a shipped connector" if connector.key in shipped else own[connector.key].source
            message = f"the key `{connector.key}` belongs to {owner}; choose another key"
            problems.append(Problem(connector.source, 1, 1, message))
        elif not _is_s1(path) and (misnamed := _misnamed(path, connector)):
            problems.append(misnamed)
        elif version:
            older[connector.key, version] = connector
        else:
            own[connector.key] = connector
    problems += _out_of_order(own, older)
    if problems:
        raise ConnectorFileError(problems)
    if warnings:
        _log.warning("%d warnings of .s1.yaml files; `mooring connectors check` shows them", len(warnings))
    return Registry(own, shipped, warnings, older)


def _out_of_order(own: Mapping[str, Connector], older: Mapping[tuple[str, str], Connector | Path]) -> Iterator[Problem]:
    """Versions without a connector, and those that are not older than it."""
    for (key, version), connector in older.items():
        if isinstance(connector, Path):
            continue
        current = own.get(key)
        if current is None:
            message = f"this is a version of `{key}`, whose newest one has to stand in `{key}.yaml`"
        elif _order(version) >= _order(current.version):
            message = f"`{key}.yaml` has the version {current.version}, which has to be newer than {version}"
        else:
            continue
        yield Problem(connector.source, 1, 1, message)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _split(name: str) -> tuple[str, str]:
    """`inventory@1.2.0` as key and version; the version is empty without one."""
    key, _, version = name.partition("@")
    return key, version


def _name(path: Path) -> str:
    return path.parent.name if path.name == "connector.yaml" else path.stem


def _is_s1(path: Path) -> bool:
    return path.name.endswith(SUFFIX)


def _load_s1(path: Path, extra_dir: Path | None, warnings: list[Problem]) -> Connector:
    """Load a file as it is. In a folder of its own it is called as the folder: so it can stand beside a shipped one."""
    from mooring.connectors.s1.loader import load_s1

    loaded = load_s1(path, key=path.parent.name if path.parent != extra_dir else None)
    warnings += loaded.warnings
    return loaded.connector


def _load(path: Path, *, builtin: bool) -> Connector:
    from mooring.connectors import loader  # its models cost a start 0.1 s, and an idle process memory

    return loader.load_file(path, builtin)


def _load_shipped(path: Path) -> Connector:
    connector = _load(path, builtin=True)
    if misnamed := _misnamed(path, connector):
        raise ConnectorFileError([misnamed])
    return connector


def _misnamed(path: Path, connector: Connector) -> Problem | None:
    key, version = _split(_name(path))
    if connector.key == key and version in ("", connector.version):
        return None
    name = f"{connector.key}@{connector.version}" if "@" in _name(path) else connector.key
    message = f"the file or folder of the connector `{connector.key}` must be called `{name}`"
    return Problem(connector.source, 1, 1, message)


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
