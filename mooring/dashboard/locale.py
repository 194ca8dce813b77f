"""Languages: English stands in the pages, other languages in one catalogue each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

LANGUAGES: Final[dict[str, str]] = {"en": "English", "de": "Deutsch"}
_FOLDER = Path(__file__).with_name("locales")


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str) -> Mapping[str, str]:
    """English text → text in the language."""
    if language not in LANGUAGES or language == "en":
        return {}
    found: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


def translate(language: str, text: str, values: Mapping[str, object] | None = None) -> str:
    """A text in a language, with its values put in; English where the catalogue has none."""
    found = catalogue(language).get(text, text)
    return found.format(**values) if values else found


def negotiate(chosen: str | None, accept: str) -> str:
    """The language of a page: what the person chose, else the first that their browser asks for, else English."""
    if chosen in LANGUAGES:
        return str(chosen)
    for part in accept.split(","):
        code = part.partition(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return code
    return "en"
