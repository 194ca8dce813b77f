"""What end users read about assistants, in their own language: the English text is the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from mooring.connect import languages

LANGUAGES: Final = ("en", "de")


@lru_cache(maxsize=1)
def _german() -> Mapping[str, str]:
    known: dict[str, str] = json.loads(Path(__file__).with_name("de.json").read_text(encoding="utf-8"))
    return known


def asked_for(accept_language: str) -> str:
    """The language in which a person reads: German or English."""
    found = languages.asked_for(accept_language)
    return found if found in LANGUAGES else "en"


def say(language: str, text: str) -> str:
    """An English text in the language; as it is where there is no translation."""
    return _german().get(text, text) if language == "de" else text
