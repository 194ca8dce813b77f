"""Which thing of the hub an entry of the file means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mooring.connectors.yaml_source import Location
from mooring.plan.reading import HubFile


@dataclass(frozen=True, slots=True)
class Entry:
    """What the file calls a thing: by its key, by the key that it had before, or by its id."""

    at: Location
    key: Any
    was: Any = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A thing of the hub."""

    id: str
    key: Any
    row: Any


def match(file: HubFile, entries: Sequence[Entry], known: Sequence[Known]) -> tuple[list[Any], list[Known]]:
    """For each entry its row or None, and the rows that no entry means. What is not clear is a fault of the file."""
    rows: list[Any] = []
    taken: dict[str, Entry] = {}
    keys: dict[Any, Entry] = {}
    named = {entry.id for entry in entries if entry.id}
    for entry in entries:
        if entry.id is None and (twin := keys.setdefault(entry.key, entry)) is not entry:
            line = file.source.position(twin.at).line
            file.fault(
                entry.at, f"the same stands in line {line}; say which ones are meant with `id`, or give other names"
            )
        found = _find(file, entry, [k for k in known if entry.id or k.id not in named])
        if found is not None and (first := taken.setdefault(found.id, entry)) is not entry:
            line = file.source.position(first.at).line
            file.fault(entry.at, f"the entry in line {line} means the same one ({found.id})")
        rows.append(found.row if found else None)
    return rows, [k for k in known if k.id not in taken]


def _find(file: HubFile, entry: Entry, known: Sequence[Known]) -> Known | None:
    if entry.id is not None:
        found = [k for k in known if k.id == entry.id]
        if not found:
            file.fault((*entry.at, "id"), f"there is no {entry.id} here; leave `id` out to make a new one")
    else:
        found = [k for k in known if k.key == entry.key]
        if not found and entry.was is not None:
            found = [k for k in known if k.key == entry.was]
    if len(found) > 1:
        listed = ", ".join(k.id for k in found)
        file.fault(entry.at, f"there are {len(found)} of this name; say which one is meant with `id`: {listed}")
    return found[0] if found else None
