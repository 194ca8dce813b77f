"""The native connector format, as it is written in YAML. `docs/connectors.md` explains it to authors.

These models say what may stand where. What depends on several places (references, hosts, the test's action)
is checked in `compile.py`, which turns a `ConnectorSpec` into the internal form.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from mooring.connectors.action_spec import ActionSpec, Errors, LimitsSpec, PageSpec, Test
from mooring.connectors.definition import Kind, Stage
from mooring.connectors.event_spec import EventsSpec
from mooring.connectors.field_spec import Fields
from mooring.connectors.oauth2_spec import OAuth2Spec, SessionSpec
from mooring.connectors.sign_spec import SignSpec
from mooring.connectors.spec_types import (
    PlainText,
    Seconds,
    Spec,
    Strings,
    Text,
    exactly_one,
    short,
)

Category = Literal[
    "ats",
    "hris",
    "hris-legacy",
    "crm",
    "iam",
    "marketing",
    "lms",
    "stackone",
    "documents",
    "ticketing",
    "screening",
    "messaging",
    "accounting",
    "scheduling",
    "developer_tools",
    "storage",
    "ai",
    "other",
]
_CONNECTOR_KEY = re.compile(r"[a-z][a-z0-9-]*")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def _connector_key(value: str) -> str:
    if "_" in value:
        raise ValueError(
            "a connector key has no underscore: tool names are `<connector>_<action>`, and clients cut them "
            "at the first `_`; use `-` or nothing"
        )
    if not _CONNECTOR_KEY.fullmatch(value):
        raise ValueError("a connector key is made of a-z, 0-9 and `-`, and begins with a letter")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name is made of a-z, 0-9, `_` and `-`, and begins with a letter")
    return value


Name = Annotated[str, AfterValidator(_name)]


class BasicSpec(Spec):
    """HTTP Basic (RFC 7617)."""

    username: Text
    password: Text = ""


class BearerSpec(Spec):
    """`Authorization: Bearer …` (RFC 6750)."""

    token: Text


class PairSpec(Spec):
    """A header or query parameter with its value."""

    name: PlainText
    value: Text


class MtlsSpec(Spec):
    """Mutual TLS: the certificate with its chain, and its private key, both as PEM."""

    certificate: Text
    private_key: Text


class AuthSpec(Spec):
    """One way to authenticate."""

    later: ClassVar[frozenset[str]] = frozenset({"python"})

    basic: BasicSpec | None = None
    bearer: Annotated[BearerSpec, BeforeValidator(short("token"), json_schema_input_type=str | BearerSpec)] | None = (
        None
    )
    header: PairSpec | None = None
    headers: dict[str, Text] = Field(default_factory=dict)  # extra ones; the credential when no other kind is given
    query: PairSpec | None = None
    path: Literal[True] | None = None  # the credential stands in the path of the base URL
    body: dict[str, Any] | None = None
    body_field: str | None = None
    mtls: MtlsSpec | None = None  # beside another kind, for its token requests too; the credential when none is given
    oauth2: OAuth2Spec | None = None
    session: SessionSpec | None = None
    sign: SignSpec | None = None
    none: dict[str, None] | bool | None = None

    label: str | None = None
    fields: Fields = Field(default_factory=dict)
    app_fields: Fields = Field(default_factory=dict)
    test: Test | None = None
    base_url: Text | None = None
    permissions: Strings = Field(default_factory=list)
    notice: str | None = None
    external_trigger: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> AuthSpec:
        _ = self.kind
        return self

    @property
    def kind(self) -> Kind:
        """The kind of credential. Raises ValueError when there is not exactly one."""
        kinds = ("basic", "bearer", "header", "query", "body", "path", "oauth2", "session", "sign", "none")
        given = self.model_fields_set
        if given.intersection(kinds):
            given = given - {"headers", "mtls"}  # beside another kind they are extras
        elif "headers" in given:
            given = given - {"mtls"}
        kind = exactly_one("an auth method", given, (*kinds, "headers", "mtls"))
        return "header" if kind == "headers" else kind  # type: ignore[return-value]


class TimeoutsSpec(Spec):
    """How long a call through the proxy may take: until the answer's first byte, and between two of its parts."""

    first_byte: Annotated[Seconds, Field(ge=1, le=600)] = 60
    idle: Annotated[Seconds, Field(ge=1, le=600)] = 30


class ConnectorSpec(Spec):
    """A connector file."""

    later: ClassVar[frozenset[str]] = frozenset({"openapi", "sync", "schemas"})

    connector: Annotated[str, AfterValidator(_connector_key)]
    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+$")
    title: str = Field(min_length=1)
    categories: Annotated[
        list[Category],
        BeforeValidator(
            lambda value: value if isinstance(value, list) else [value],
            json_schema_input_type=Category | list[Category],
        ),
    ] = Field(validation_alias=AliasChoices("categories", "category"), min_length=1)
    docs: str | None = Field(default=None, pattern=r"^https?://\S+$")
    website: str | None = Field(default=None, pattern=r"^https?://\S+$")
    description: str | None = None
    stage: Stage = "ga"
    base_url: Text | None = None
    headers: dict[str, Text] = Field(default_factory=dict)
    limits: LimitsSpec | None = None
    timeouts: TimeoutsSpec = TimeoutsSpec()
    page: PageSpec | None = None
    auth: dict[Name, AuthSpec] = Field(min_length=1)
    actions: dict[Name, ActionSpec] = Field(default_factory=dict)
    errors: Errors = Field(default_factory=list)
    events: EventsSpec | None = None
    echo_allowed: bool = False
    probe: bool = True
