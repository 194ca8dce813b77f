"""The named matchers of countries: from one of code, name and number to another (ISO 3166-1), from what citizens are called,
and between codes and names of subdivisions (ISO 3166-2). Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from iso3166 import Country, countries, countries_by_alpha2, countries_by_alpha3, countries_by_numeric

from mooring.actions.s1.citizenships import CITIZENSHIPS
from mooring.connectors.s1.program import COUNTRY_MATCHER, PLACE_MATCHERS

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
    "nauru": "NR",
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


_LETTERS: Final = str.maketrans(
    {
        "&": " and ",
        "'": "",
        "\u2018": "",
        "æ": "ae",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ı": "i",
        "ł": "l",
        "þ": "th",
    }
    | {"ə": "a"}
)
"""Letters that no accent explains, and what stands between letters."""


def matched(name: str, value: Any) -> str | dict[str, str] | None:
    """What the matcher makes of a value, or None when it knows no such country. The code of a country is its number.

    The subdivisions of a country are names by their codes. A name that subdivisions of several countries have is none.
    """
    if name in PLACE_MATCHERS:
        return _places(name, value.strip()) if isinstance(value, str) else None
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


def _places(name: str, text: str) -> str | dict[str, str] | None:
    if name == "country_alpha2code_by_citizenship":
        country = _found("country_name", text)
        return _citizens().get(_plain(text)) or (country.alpha2 if country is not None else None)
    table = _subdivisions()
    if name == "country_subdivisions_by_alpha2code":
        start = f"{text.upper()}-"
        return {code: names[0] for code, names in table.items() if code.startswith(start)} or None
    if name == "country_subdivision_name_by_subdivision_code":
        return next(iter(table.get(text.upper(), ())), None)
    return _subdivision_codes().get(_plain(text))


def _found(by: str, value: Any) -> Country | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    if by == "alpha2code":
        return countries_by_alpha2.get({"UK": "GB", "EL": "GR"}.get(text.upper(), text.upper()))
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
    kept = "".join(c for c in letters if not unicodedata.combining(c)).casefold().translate(_LETTERS)
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


@cache
def _citizens() -> dict[str, str]:
    """The country of every word for its citizens."""
    rows = (line.partition(" ") for line in CITIZENSHIPS.split("\n") if line)
    return {_plain(word): alpha2 for alpha2, _, words in rows for word in words.split(", ")}


@cache
def _subdivisions() -> dict[str, list[str]]:
    """The names of every subdivision by its code, that of the standard first."""
    text = files("mooring.actions.s1").joinpath("subdivisions.json").read_bytes()
    table: dict[str, list[str]] = orjson.loads(text)
    return table


@cache
def _subdivision_codes() -> dict[str, str]:
    """The code of every subdivision by each of its names, where that means one alone. The standard's names come first."""
    own: dict[str, set[str]] = {}
    other: dict[str, set[str]] = {}
    for code, names in _subdivisions().items():
        for number, name in enumerate(names):
            (other if number else own).setdefault(_plain(name), set()).add(code)
    return {name: min(codes) for name, codes in {**other, **own}.items() if len(codes) == 1}


def _turned(name: str) -> Iterator[str]:
    """`Tanzania, United Republic of` read the other way round."""
    first, comma, rest = name.partition(", ")
    if comma and rest.endswith((" of", " of the")):
        yield f"{rest} {first}"
