"""What people type, as it is written in YAML."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mooring.connectors.definition import FieldType
from mooring.connectors.spec_types import FieldPattern, PlainText, Seconds, Spec, nothing_is_empty, short

# Names that the Hub's links and the token answer already use (contract §2.13), and the language's own words.
_HUB_NAMES = {"redirect_uri", "token", "connection_attempt_id"}
_TOKEN_NAMES = {"access_token", "refresh_token", "id_token", "account"}
_WORDS = {"true", "false", "null", "in"}
RESERVED_FIELDS = frozenset(_HUB_NAMES | _TOKEN_NAMES | _WORDS)
_FIELD_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def _field_key(value: str) -> str:
    if not _FIELD_KEY.fullmatch(value):
        raise ValueError("a field key is made of letters, digits and `_`, and begins with a letter")
    if value in RESERVED_FIELDS:
        raise ValueError(f"`{value}` is taken by the platform; choose another field key")
    return value


FieldKey = Annotated[str, AfterValidator(_field_key)]


class OptionSpec(Spec):
    """One choice of a select field."""

    value: PlainText
    label: str | None = None


Option = Annotated[OptionSpec, BeforeValidator(short("value"), json_schema_input_type=str | OptionSpec)]


class FieldSpec(Spec):
    """One value that a person types."""

    label: str | None = None
    type: FieldType | None = None
    required: bool = True
    secret: bool = False
    placeholder: PlainText | None = None
    help: str | None = None
    options: list[Option] = Field(default_factory=list)
    pattern: FieldPattern | None = None
    pattern_error: str | None = None
    lifetime: Seconds | None = None
    default: PlainText | None = None
    read_only: bool = False


Fields = dict[
    FieldKey, Annotated[FieldSpec, BeforeValidator(nothing_is_empty, json_schema_input_type=FieldSpec | None)]
]
