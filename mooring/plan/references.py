"""Values that stand elsewhere: environment variables, and files beside `hub.yaml`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mooring.connectors.yaml_source import Location
from mooring.plan.reading import HubFile
from mooring.plan.spec import FileReference, Reference

MAX_BYTES: Final = 140_000


def resolve(file: HubFile, at: Location, value: str | Reference | None) -> str | None:
    """The value of a place of the file, without blanks around it; a fault and None where there is none."""
    if isinstance(value, Reference):
        return _from_env(file, at, value.env) if value.env else _from_file(file, at, value.file or "")
    return value


def content_of(file: HubFile, at: Location, reference: FileReference) -> bytes | None:
    """The bytes of a file beside the hub file; a fault and None where there are none."""
    path = file.folder / Path(reference.file)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as e:
        file.fault((*at, "file"), f"{reference.file} can't be read: {e.strerror}")
        return None
    if len(content) > MAX_BYTES:
        file.fault((*at, "file"), f"{reference.file} is larger than {MAX_BYTES} bytes")
        return None
    return content


def _from_env(file: HubFile, at: Location, name: str) -> str | None:
    value = os.environ.get(name, "").strip()
    if not value:
        file.fault((*at, "env"), f"the environment variable {name} is not set")
        return None
    return value


def _from_file(file: HubFile, at: Location, name: str) -> str | None:
    content = content_of(file, at, FileReference(file=name))
    if content is None:
        return None
    try:
        value = content.decode().strip()
    except UnicodeDecodeError:
        file.fault((*at, "file"), f"{name} is not UTF-8")
        return None
    if not value:
        file.fault((*at, "file"), f"{name} is empty")
        return None
    return value
