"""Languages: the German catalogue holds every text of the pages, with the same values in it."""

from __future__ import annotations

import re

import pytest

from mooring.dashboard import locale
from tests.dashboard.people import Crew, Person, text
from tests.dashboard.texts import texts


def test_the_german_catalogue_is_complete_and_has_nothing_else() -> None:
    have = set(locale.catalogue("de"))
    assert sorted(texts() - have) == []
    assert sorted(have - texts()) == []


def test_translations_keep_the_values() -> None:
    for english, german in locale.catalogue("de").items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", german)), english


@pytest.mark.parametrize(
    ("chosen", "accept", "language"),
    [
        (None, "de-AT,de;q=0.9,en;q=0.5", "de"),
        ("en", "de", "en"),
        (None, "fr", "en"),
        (None, "", "en"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_persons_then_the_browsers(chosen: str | None, accept: str, language: str) -> None:
    assert locale.negotiate(chosen, accept) == language


def test_a_page_is_in_the_language_that_the_browser_asks_for(crew: Crew) -> None:
    page = crew.viewer.get(crew.base + "/connectors", headers={"accept-language": "de"})
    assert '<html lang="de"' in page.text and "Richte den ersten Connector ein" in text(page)
    sign_in = Person(crew.hub, "x@example.com").get("/dashboard/sign-in", headers={"accept-language": "de"})
    assert "Anmelden" in text(sign_in)
