"""The three date functions of `.s1.yaml` expressions, and the date patterns that they and `typecast` read."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

# The tokens of date-fns that connector files use, with what each matches.
_TOKENS: Final = {
    "yyyy": r"(?P<year>\d{4})",
    "yy": r"(?P<short>\d{2})",
    "MMMM": r"(?P<word>[A-Za-z]{3,9})",
    "MMM": r"(?P<word>[A-Za-z]{3})",
    "MM": r"(?P<month>\d{2})",
    "M": r"(?P<month>\d{1,2})",
    "dd": r"(?P<day>\d{2})",
    "d": r"(?P<day>\d{1,2})",
    "HH": r"(?P<hour>\d{2})",
    "mm": r"(?P<minute>\d{2})",
    "ss": r"(?P<second>\d{2})",
    "SSS": r"(?P<milli>\d{3})",
}
_PIECE = re.compile(r"'([^']*)'|" + "|".join(_TOKENS) + "|.", re.DOTALL)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@lru_cache(maxsize=256)
def _pattern(format: str) -> re.Pattern[str] | None:
    """The regular expression of a pattern, None when a token stands twice or letters are no token."""
    out = []
    for match in _PIECE.finditer(format):
        piece = match.group()
        if match[1] is not None:
            out.append(re.escape(match[1]))
        elif piece in _TOKENS:
            out.append(_TOKENS[piece])
        elif piece.isalpha() and piece not in "TZ":
            return None
        else:
            out.append(re.escape(piece))
    try:
        return re.compile("".join(out))
    except re.error:
        return None


def parse_date(text: Any, format: Any) -> datetime | None:
    """Read a text by a date-fns pattern such as `dd/MM/yyyy`, as UTC; None when it does not fit."""
    if not isinstance(text, str) or not isinstance(format, str) or len(format) > 64 or len(text) > 64:
        return None
    pattern = _pattern(format)
    match = pattern.fullmatch(text.strip()) if pattern is not None else None
    if match is None:
        return None
    found = match.groupdict()
    month = found.get("month")
    if month is None and (word := found.get("word")):
        month = str(_MONTHS.index(word[:3].lower()) + 1) if word[:3].lower() in _MONTHS else "0"
    year = found.get("year") or (f"20{found['short']}" if found.get("short") else "0")
    hour, minute, second, milli = (int(found.get(name) or 0) for name in ("hour", "minute", "second", "milli"))
    try:
        return datetime(
            int(year),
            int(month or 1),
            int(found.get("day") or 1),
            hour,
            minute,
            second,
            milli * 1000,
            UTC,
        )
    except ValueError:
        return None


def _today() -> date:
    return datetime.now(UTC).date()


def _in_year(day: date, year: int) -> date:
    """The same day of another year; 29 February becomes 1 March where there is none, as in JavaScript."""
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def next_anniversary(text: Any, format: Any) -> str | None:
    """The next time that this day of the year comes, today included, as ISO text at midnight UTC."""
    parsed = parse_date(text, format)
    if parsed is None:
        return None
    today = _today()
    found = _in_year(parsed.date(), today.year)
    if found < today:
        found = _in_year(parsed.date(), today.year + 1)
    return f"{found.isoformat()}T00:00:00.000Z"


def years_elapsed(start: Any, format: Any, end: Any = None) -> int | None:
    """Whole years from one date to another, by default to today; None when either can't be read."""
    first = parse_date(start, format)
    last = parse_date(end, format) if isinstance(end, str) and end else datetime.now(UTC)
    if first is None or last is None:
        return None
    years = last.year - first.year
    return years - (_in_year(first.date(), last.year) > last.date())


def has_passed(text: Any, format: Any, add_years: Any = 0) -> bool:
    """Tell whether the date, moved by whole years, is before tomorrow."""
    parsed = parse_date(text, format)
    if parsed is None:
        return False
    years = add_years if isinstance(add_years, int) and abs(add_years) < 1000 else 0
    try:
        moved = _in_year(parsed.date(), parsed.year + years)
    except ValueError:
        return False
    return moved < _today() + timedelta(days=1)
