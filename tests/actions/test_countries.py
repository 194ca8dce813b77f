"""The named matchers of countries in `.s1.yaml` files."""

from __future__ import annotations

from typing import Any

import pytest
from iso3166 import countries

from mooring.actions.s1.citizenships import CITIZENSHIPS
from mooring.actions.s1.countries import matched


@pytest.mark.parametrize(
    ("matcher", "value", "expected"),
    [
        ("country_alpha2code_by_alpha2code", "de", "DE"),
        ("country_alpha2code_by_alpha3code", "GBR", "GB"),
        ("country_alpha3code_by_alpha2code", " fr ", "FRA"),
        ("country_code_by_alpha3code", "USA", "840"),
        ("country_name_by_alpha2code", "IE", "Ireland"),
        ("country_alpha2code_by_country_code", "008", "AL"),
        ("country_alpha2code_by_country_code", 8, "AL"),
        ("country_name_by_country_code", "8", "Albania"),
        ("country_alpha2code_by_country_name", "United States", "US"),
        ("country_alpha2code_by_country_name", "united states of america", "US"),
        ("country_alpha2code_by_country_name", "Côte d’Ivoire", "CI"),
        ("country_alpha2code_by_country_name", "Cote d'Ivoire", "CI"),
        ("country_alpha2code_by_country_name", "Turkey", "TR"),
        ("country_alpha2code_by_country_name", "TÜRKIYE", "TR"),
        ("country_alpha2code_by_country_name", "Bolivia", "BO"),
        ("country_alpha3code_by_country_name", "United Republic of Tanzania", "TZA"),
        ("country_alpha2code_by_country_name", "Bosnia & Herzegovina", "BA"),
        ("country_alpha2code_by_country_name", "Falkland Islands", "FK"),
        ("country_alpha2code_by_country_name", "Korea", None),  # which one?
        ("country_alpha2code_by_country_name", "Atlantis", None),
        ("country_alpha2code_by_alpha2code", "XX", None),
        ("country_alpha2code_by_alpha2code", "DEU", None),
        ("country_alpha2code_by_country_code", "²", None),
        ("country_alpha2code_by_alpha2code", None, None),
        ("country_alpha2code_by_alpha2code", True, None),
        ("country_alpha2code_by_alpha2code", {"a": 1}, None),
        ("country_alpha2code_by_citizenship", "German", "DE"),
        ("country_alpha2code_by_citizenship", " south african ", "ZA"),
        ("country_alpha2code_by_citizenship", "Ni-Vanuatu", "VU"),
        ("country_alpha2code_by_citizenship", "Réunionnais", "RE"),
        ("country_alpha2code_by_citizenship", "Netherlands", "NL"),  # some systems write the country
        ("country_alpha2code_by_citizenship", "Martian", None),
        ("country_alpha2code_by_citizenship", 276, None),
        ("country_subdivision_name_by_subdivision_code", "us-ca", "California"),
        ("country_subdivision_name_by_subdivision_code", "DE-BY", "Bayern"),
        ("country_subdivision_name_by_subdivision_code", "US-XX", None),
        ("country_subdivision_code_by_subdivision_name", "california", "US-CA"),
        ("country_subdivision_code_by_subdivision_name", "Bavaria", "DE-BY"),
        ("country_subdivision_code_by_subdivision_name", "BAYERN", "DE-BY"),
        ("country_subdivision_code_by_subdivision_name", "Karnten", "AT-2"),
        ("country_subdivision_code_by_subdivision_name", "Sjaelland", "DK-85"),
        ("country_subdivision_code_by_subdivision_name", "Punjab", None),  # in India and in Pakistan
        ("country_subdivision_code_by_subdivision_name", "Nowhere", None),
        ("country_subdivisions_by_alpha2code", "XX", None),
        ("country_subdivisions_by_alpha2code", "", None),
    ],
)
def test_a_country_is_turned_into_another_way_to_write_it(matcher: str, value: Any, expected: str | None) -> None:
    assert matched(matcher, value) == expected


def test_every_country_is_found_by_what_every_matcher_gives() -> None:
    ways = {"alpha2code": "alpha2code", "alpha3code": "alpha3code", "code": "country_code", "name": "country_name"}
    for country in countries:
        for to, by in ways.items():
            given = matched(f"country_{to}_by_alpha2code", country.alpha2)
            assert given is not None and matched(f"country_alpha2code_by_{by}", given) == country.alpha2


def test_the_subdivisions_of_a_country_are_names_by_code() -> None:
    states = matched("country_subdivisions_by_alpha2code", "au")
    assert isinstance(states, dict)
    assert states["AU-VIC"] == "Victoria" and len(states) == 8


def test_every_subdivision_with_a_name_of_its_own_is_found_again() -> None:
    found = lost = 0
    for country in countries:
        divisions = matched("country_subdivisions_by_alpha2code", country.alpha2) or {}
        for code, name in divisions.items():
            assert matched("country_subdivision_name_by_subdivision_code", code) == name
            again = matched("country_subdivision_code_by_subdivision_name", name)
            found, lost = found + (again == code), lost + (again is None)
            assert again in (code, None), (code, name, again)
    assert found > 4500 and lost < 900


def test_a_word_for_citizens_belongs_to_one_country() -> None:
    owners: dict[str, str] = {}
    for line in CITIZENSHIPS.strip().split("\n"):
        alpha2, _, words = line.partition(" ")
        assert matched("country_alpha2code_by_alpha2code", alpha2) == alpha2
        for word in words.split(", "):
            assert owners.setdefault(word.casefold(), alpha2) == alpha2, word
