"""Write an imported connector as YAML, and compare it with the file of an earlier import."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator

from mooring.connectors.file_writing import dumped
from mooring.connectors.openapi.importer import Imported


def as_text(imported: Imported, *, source: str, raw: bytes) -> str:
    """The file: where it came from, what to look at, and the connector."""
    head = [
        "# yaml-language-server: $schema=connector.schema.json",
        f"# Imported from {source}, sha256 {hashlib.sha256(raw).hexdigest()}.",
    ]
    if imported.notes:
        head += ["# To look at:", *(f"# - {note}" for note in dict.fromkeys(imported.notes))]
    return "\n".join(head) + "\n" + dumped(imported.connector)


def difference(old: str, new: str, name: str) -> str:
    """What an import would change in a file, as a unified diff; empty without a difference."""
    return "".join(_lines(old, new, name))


def _lines(old: str, new: str, name: str) -> Iterator[str]:
    return difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{name} (now)", f"{name} (imported)"
    )
