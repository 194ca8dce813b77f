"""Entries of the audit log from which names of a person were taken, and how the chain stays whole (decision 26). Pure.

A redacted entry keeps its MAC, so every later entry and every anchor still holds; what it says no longer fits that MAC. A
later entry, itself part of the chain, names it with the digest of what it says now. Without such an entry it counts as
changed; with one, what it says can neither be changed again nor put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

import orjson

ACTION: Final = "audit.redacted"
PER_ENTRY: Final = 100  # redacted entries that one entry names


def digest(values: Mapping[str, Any]) -> str:
    """The digest of what an entry says; `values` are its fields without the MAC."""
    content = {**values, "at": values["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Redactions:
    """What a walk along the chain met: entries that no longer fit their MAC, and entries that say why."""

    def __init__(self) -> None:
        self._differing: dict[int, str] = {}
        self._named: dict[int, str] = {}

    def differs(self, values: Mapping[str, Any]) -> None:
        """An entry does not fit its MAC."""
        self._differing[values["seq"]] = digest(values)

    def explain(self, detail: Mapping[str, Any]) -> None:
        """An entry of `ACTION`, whose own MAC fits, names what was redacted. A later one counts more."""
        self._named |= {int(seq): str(said) for seq, said in detail["entries"].items()}

    def first_wrong(self) -> tuple[int, str] | None:
        """The first entry that no redaction explains, or that says again what was taken out of it; and why."""
        changed = [seq for seq, said in self._differing.items() if self._named.get(seq) != said]
        restored = [seq for seq in self._named if seq not in self._differing]
        if not changed and not restored:
            return None
        first = min((*changed, *restored))
        if first in self._named:
            return first, "it was redacted, and says something else now"
        return first, "it was changed, or the one before it was replaced"
