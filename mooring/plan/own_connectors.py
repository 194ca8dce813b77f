"""Hold the operator's connectors against the file. They are files of the hub's hosts: checked here, never written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mooring.connectors.definition import Connector
from mooring.connectors.registry import Registry
from mooring.connectors.s1 import PARTIAL, SUFFIX
from mooring.plan.reading import HubFile


def check(file: HubFile, registry: Registry) -> None:
    """Note every connector that is missing, of another version, or not the file that was meant."""
    for index, spec in enumerate(file.spec.connectors):
        at = ("connectors", index)
        found = registry.get(spec.key)
        if found is None:
            file.fault((*at, "key"), f"there is no connector `{spec.key}` in MOORING_CONNECTORS_DIR")
            continue
        if found.builtin:
            file.fault((*at, "key"), f"`{spec.key}` is shipped with Mooring; `connectors` lists your own ones")
            continue
        if spec.version is not None:
            versions = registry.versions(spec.key)
            if spec.version not in versions:
                file.fault((*at, "version"), f"`{spec.key}` is there as {', '.join(versions)}, not as {spec.version}")
                continue
            found = registry.pinned(spec.key, spec.version) or found
        if spec.sha256 is not None and (actual := fingerprint(found)) != spec.sha256:
            file.fault((*at, "sha256"), f"the file of `{spec.key}` {found.version} has the sha256 {actual}")


def fingerprint(connector: Connector) -> str:
    """The SHA-256 of a connector's file; of one that has several, that of the lines that `sha256sum` writes of them."""
    path = Path(connector.source)
    folder = path.parent
    more: list[Path] = []
    if path.name == "connector.yaml":
        more = sorted(folder.glob("actions/*.yaml"))
    elif path.name.endswith(SUFFIX):
        more = sorted(p for p in folder.iterdir() if p.name.endswith(PARTIAL))
    if not more:
        return _sum(path)
    lines = "".join(f"{_sum(p)}  {p.relative_to(folder).as_posix()}\n" for p in (path, *more))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
