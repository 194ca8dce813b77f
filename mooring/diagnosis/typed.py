"""What is wrong with a value by its looks alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_SUSPICIOUS = re.compile(r"[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060\ufeff]")
_SENTENCES: Final = frozenset({"username", "password", "name"})  # may hold spaces rightly
_FILE = re.compile(r'-----BEGIN|\A\s*\{\s*"')  # PEM, or JSON such as a JWK
_LONGEST: Final = 200  # characters; no example is longer
_EXAMPLE = re.compile(
    r"<[^<>]{1,60}>|\{\{?[^{}]{1,60}\}\}?|\$\{?[A-Z_]{3,60}\}?|[x*•.]{4,}|(?:.*[^.])?\.\.\.|.*…"
    r"|(?:(?:your|my|the|insert|enter|paste|put)[-_ ]?)+(?:[a-z]+[-_ ])*(?:api[-_ ]?)?"
    r"(?:key|token|secret|id|password)(?:[-_ ]?here)?"
    r"|(?:api[-_ ]?key|api[-_ ]?token|access[-_ ]?token|client[-_ ]?secret|client[-_ ]?id)"
    r"|change[-_ ]?me|todo|tbd|n/a|null|undefined|none|example|placeholder",
    re.IGNORECASE,
)


def stray_spaces(typed: Mapping[str, str]) -> list[str]:
    """Keys of typed values with white space or invisible characters in them. Sentences and whole files are left alone."""
    return [
        key
        for key, value in typed.items()
        if _SUSPICIOUS.search(value) and not _FILE.search(value) and key not in _SENTENCES
    ]


def placeholders(typed: Mapping[str, str], examples: Mapping[str, str]) -> list[str]:
    """Keys of typed values that look like an example: the field's own, or one of the usual forms."""
    return [
        key
        for key, value in typed.items()
        if key not in _SENTENCES
        and len(value) <= _LONGEST
        and (_same(value, examples.get(key)) or _EXAMPLE.fullmatch(value.strip()))
    ]


def _same(value: str, example: str | None) -> bool:
    return bool(example) and value.strip().lower() == str(example).strip().lower()
