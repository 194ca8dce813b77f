"""Every cause that an end user may see is said in all languages, and the pages of a popup speak the browser's language."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import httpx
import pytest

import mooring
from mooring.connect.languages import asked_for, hub_file, say, sentences
from mooring.connectors.compile_fields import humanise
from mooring.connectors.registry import CATALOG
from mooring.diagnosis.table import CAUSES
from mooring.identity.project_settings import LANGUAGES
from tests.hub import Hub

OTHERS = [code for code in LANGUAGES if code != "en"]
COMMON_FIELDS = (
    "access_token", "account_id", "api_key", "api_secret", "api_token", "base_url", "client_id", "client_secret",
    "company_domain", "company_id", "domain", "email", "environment", "host", "organization_id", "password",
    "private_key", "region", "secret_key", "subdomain", "tenant", "tenant_id", "workspace",
)  # fmt: skip


@cache
def our_words() -> str:
    """What our code and the catalogue say, with strings that are broken over lines put together."""
    files = [*Path(mooring.__file__).parent.rglob("*.py"), *CATALOG.glob("*.yaml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r'"\n\s*f?"', "", text)


@pytest.mark.parametrize("language", OTHERS)
def test_every_cause_is_said_in_every_language(language: str) -> None:
    known = sentences(language)
    lacking = [(c.code, text) for c in CAUSES.values() for text in (c.for_user, c.what_to_do) if not known.get(text)]
    assert lacking == []
    assert set(json.loads(hub_file(language))["causes"]) == set(CAUSES)


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_is_whole_and_keeps_what_stands_in_braces(language: str) -> None:
    known = sentences(language)
    assert list(known) == list(sentences("de"))  # one order, so that a missing line is seen
    for english, told in known.items():
        assert told == told.strip() and told, english
        assert sorted(re.findall(r"\{\w+}", told)) == sorted(re.findall(r"\{\w+}", english)), english
        assert told != english or len(english) < 10, english  # such as «Region»


def test_no_sentence_is_translated_that_nobody_says_any_more() -> None:
    of_causes = {text for c in CAUSES.values() for text in (c.for_user, c.what_to_do)}
    long = [text for text in sentences("de") if len(text.split()) > 4 and text not in of_causes and "{n}" not in text]
    assert [text for text in long if text not in our_words()] == []


@pytest.mark.parametrize("language", OTHERS)
def test_labels_of_usual_fields_are_known(language: str) -> None:
    assert [key for key in COMMON_FIELDS if humanise(key) not in sentences(language)] == []


def test_the_language_is_the_first_that_we_have() -> None:
    assert asked_for("pl, ja;q=0.9, de;q=0.8") == "ja"
    assert asked_for("pt-BR,pt;q=0.9,en;q=0.8") == "pt"
    assert asked_for("") == asked_for("xx") == "en"
    assert say("en", "Connected") == "Connected" and say("de", "no such text") == "no such text"


def test_the_pages_of_the_popup_speak_the_language_of_the_browser(hub: Hub) -> None:
    def read(path: str, language: str) -> str:
        headers = {"accept": "text/html", "accept-language": language}
        return httpx.get(hub.url + path, headers=headers, trust_env=False).text

    done = "/embedded/accounts/callback?status=authenticated&account_id=x&provider=sandbox"
    assert '<html lang="ja"' in read(done, "ja-JP") and "<h1>接続しました</h1>" in read(done, "ja-JP")
    assert "<h1>Connected</h1>" in read(done, "pl")
    failed = "/embedded/accounts/callback?error=access_denied&error_description=Sandbox%3A+no+Reference%3A+1"
    german = read(failed, "de")
    assert say("de", CAUSES["access_denied"].for_user) in german and "Sandbox: no Reference: 1" in german
    spent = f"/connect/launch/x?code={'y' * 43}"
    assert "Dieser Anmeldelink wurde schon benutzt" in read(spent, "de") and "was already used" in read(spent, "en")
    unknown = "/connect/oauth2/sandbox/callback?state=unknown&code=x"
    assert CAUSES["state_expired"].what_to_do in read(unknown, "en")
    assert say("es", CAUSES["state_expired"].for_user) in read(unknown, "es")
