"""The named matchers of countries in `.s1.yaml` files."""

from __future__ import annotations

from typing import Any

import pytest
from iso3166 import countries

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
        ("country_alpha2code_by_citizenship", "German", None),
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
