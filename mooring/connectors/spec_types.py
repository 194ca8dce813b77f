"""Building blocks of the format's models: strict base, checked texts, short forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from mooring.protocol.template import compile_template

_DURATION = re.compile(r"(\d+)\s*(s|m|h|d|w)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Spec(BaseModel):
    """Base of the format's models: unknown keys are refused and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()  # keys of the format that this release does not serve yet


def plain_text(value: Any) -> Any:
    """Read whole numbers and booleans as the text that they are; leave everything else to validation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        raise ValueError("put quotes around this number, so that its digits stay as written")  # noqa: TRY004
    return value


def check_template(value: str) -> str:
    """Refuse text whose `${…}` parts do not parse."""
    compile_template(value)
    return value


def short(key: str) -> Callable[[Any], Any]:
    """Make a converter that takes a bare text for a mapping with only `key`."""
    return lambda value: {key: value} if isinstance(value, str) else value


def nothing_is_empty(value: Any) -> Any:
    """Read an empty YAML value as an empty mapping, so that `api_key:` declares a field."""
    return {} if value is None else value


def as_list(value: Any) -> Any:
    """Take one value for a list of one."""
    return value if isinstance(value, list) else [value]


def words(value: Any) -> Any:
    """Take a space separated text for a list."""
    return value.split() if isinstance(value, str) else value


def seconds(value: Any) -> Any:
    """Read a duration: seconds, or text such as `90d`, `12h`, `30m`, `45s`, `2w`."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("a duration is a number of seconds, or a number with s, m, h, d or w, such as 90d")
        return int(match[1]) * _SECONDS[match[2] or "s"]
    return value


def regular_expression(value: str) -> str:
    """Refuse a pattern that is not a regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


def browser_expression(value: str) -> str:
    """Check that a pattern means the same in a browser, where the Hub checks what is typed; it would break the form."""
    bare = re.sub(r"\\[^AZ]", "e", value)  # escapes mean the same, but for \A and \Z
    bare = re.sub(r"\[\]?[^\]]*\]", "c", bare)
    found = re.search(r"\\[AZ]|\(\?(?![:=!]|<[=!])|[*+?}]\+", bare)
    if found is not None:
        raise ValueError(f"browsers do not know `{found[0]}`, and the Hub checks the pattern there too")
    return value


def exactly_one(kind: str, given: AbstractSet[str], choices: tuple[str, ...]) -> str:
    """Return the one key of `choices` that is given. Raises ValueError naming what was found."""
    found = [key for key in choices if key in given]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"`{key}`" for key in choices)
    has = " and ".join(f"`{key}`" for key in found) or "none of them"
    raise ValueError(f"{kind} has exactly one of {listed}; this one has {has}")


PlainText = Annotated[str, BeforeValidator(plain_text, json_schema_input_type=str | int | bool)]
Text = Annotated[PlainText, AfterValidator(check_template)]  # may hold ${…}
Pattern = Annotated[str, AfterValidator(regular_expression)]
FieldPattern = Annotated[Pattern, AfterValidator(browser_expression)]
Strings = Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Seconds = Annotated[int, BeforeValidator(seconds, json_schema_input_type=int | str)]
