"""What end users read in their own language: the Hub's texts, and the English sentences that other parts of us say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from mooring.diagnosis.table import CAUSES
from mooring.identity.project_settings import LANGUAGES

WEB: Final = Path(__file__).with_name("web")


@lru_cache(maxsize=len(LANGUAGES))
def sentences(language: str) -> Mapping[str, str]:
    """English text → text in the language; empty for English and for a language that we lack.

    It holds the causes of the connection doctor, what our own refusals and pages say, and what many connectors have in
    common. What one connector alone says stays English where this has nothing, and is marked so.
    """
    if language == "en" or language not in LANGUAGES:
        return {}
    found: dict[str, str] = json.loads((WEB / "said" / f"{language}.json").read_text(encoding="utf-8"))
    return found


def say(language: str, text: str) -> str:
    """An English text in the language; as it is where there is no translation."""
    return sentences(language).get(text, text)


def asked_for(accept_language: str) -> str:
    """The first language that the browser asks for and we have, else English."""
    for part in accept_language.split(","):
        code = part.partition(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return code
    return "en"


@lru_cache(maxsize=len(LANGUAGES))
def hub_file(language: str) -> str:
    """What the Hub loads for a language, as JSON: its own texts, `causes` by code, and `said`, by the English text.

    Raises KeyError for a language that we lack.
    """
    if language not in LANGUAGES:
        raise KeyError(language)
    out = json.loads((WEB / "lang" / f"{language}.json").read_text(encoding="utf-8"))
    known = sentences(language)
    if known:
        told = [(c.code, c.for_user, c.what_to_do) for c in CAUSES.values()]
        out["causes"] = {code: [known[what], known[fix]] for code, what, fix in told if what in known and fix in known}
        of_causes = {text for _, what, fix in told for text in (what, fix)}
        out["said"] = {text: told for text, told in known.items() if text not in of_causes}
    return json.dumps(out, ensure_ascii=False, separators=(",", ":"))
