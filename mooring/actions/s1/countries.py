"""The named matchers of countries: from one of code, name and number to another (ISO 3166-1). Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from iso3166 import Country, countries, countries_by_alpha2, countries_by_alpha3, countries_by_numeric

from mooring.connectors.s1.program import COUNTRY_MATCHER

_OTHER_NAMES: Final = {
    "britain": "GB",
    "brunei": "BN",
    "burma": "MM",
    "cape verde": "CV",
    "czech republic": "CZ",
    "democratic republic of congo": "CD",
    "east timor": "TL",
    "england": "GB",
    "great britain": "GB",
    "holland": "NL",
    "hong kong sar": "HK",
    "ivory coast": "CI",
    "laos": "LA",
    "macau": "MO",
    "macedonia": "MK",
    "north korea": "KP",
    "republic of korea": "KR",
    "russia": "RU",
    "south korea": "KR",
    "swaziland": "SZ",
    "syria": "SY",
    "the netherlands": "NL",
    "turkey": "TR",
    "uae": "AE",
    "uk": "GB",
    "united kingdom": "GB",
    "united states": "US",
    "us": "US",
    "usa": "US",
    "vatican": "VA",
    "vietnam": "VN",
}
"""Names in use that the standard does not have, by what `_plain` makes of them."""


def matched(name: str, value: Any) -> str | None:
    """What the matcher makes of a value, or None when it knows no such country. The code of a country is its number."""
    found = COUNTRY_MATCHER.fullmatch(name)
    country = _found(found["by"], value) if found is not None else None
    if found is None or country is None:
        return None
    return {
        "alpha2code": country.alpha2,
        "alpha3code": country.alpha3,
        "code": country.numeric,
        "name": country.apolitical_name,
    }[found["to"]]


def _found(by: str, value: Any) -> Country | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    if by == "alpha2code":
        return countries_by_alpha2.get(text.upper())
    if by == "alpha3code":
        return countries_by_alpha3.get(text.upper())
    if by == "country_code":
        return countries_by_numeric.get(text.zfill(3))
    plain = _plain(text)
    alpha2 = _OTHER_NAMES.get(plain)
    return countries_by_alpha2[alpha2] if alpha2 is not None else _names().get(plain)


def _plain(name: str) -> str:
    """A name without accents, case and punctuation."""
    letters = unicodedata.normalize("NFKD", name.replace("\u2019", "'")[:200])
    kept = "".join(c for c in letters if not unicodedata.combining(c)).casefold().replace("&", " and ").replace("'", "")
    return " ".join(re.sub(r"[^\w ]", " ", kept).split())


@cache
def _names() -> dict[str, Country]:
    """Every country by its official name, and by what stands before a comma or brackets where that names one alone."""
    out: dict[str, Country] = {}
    short: dict[str, list[Country]] = {}
    for country in countries:
        for name in (country.name, country.apolitical_name, *_turned(country.name)):
            out[_plain(name)] = country
        short.setdefault(_plain(re.split(r",| \(", country.name)[0]), []).append(country)
    for name, found in short.items():
        if len(found) == 1:
            out.setdefault(name, found[0])
    return out


def _turned(name: str) -> Iterator[str]:
    """`Tanzania, United Republic of` read the other way round."""
    first, comma, rest = name.partition(", ")
    if comma and rest.endswith((" of", " of the")):
        yield f"{rest} {first}"
