"""The native connector format, as it is written in YAML. `docs/connectors.md` explains it to authors.

These models say what may stand where. What depends on several places (references, hosts, the test's action)
is checked in `compile.py`, which turns a `ConnectorSpec` into the internal form.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from mooring.connectors.action_spec import VERBS, ActionSpec, CallSpec, Errors, LimitsSpec, PageSpec, Test
from mooring.connectors.definition import ClientAuth, FieldType, Kind, Signing, Stage
from mooring.connectors.event_spec import EventsSpec
from mooring.connectors.spec_types import (
    FieldPattern,
    Pattern,
    PlainText,
    Seconds,
    Spec,
    Strings,
    Text,
    exactly_one,
    nothing_is_empty,
    short,
    words,
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
# Names that the Hub's links and the token answer already use (contract §2.13), and the language's own words.
_HUB_NAMES = {"redirect_uri", "token", "connection_attempt_id"}
_TOKEN_NAMES = {"access_token", "refresh_token", "id_token", "account"}
_WORDS = {"true", "false", "null", "in"}
RESERVED_FIELDS = frozenset(_HUB_NAMES | _TOKEN_NAMES | _WORDS)
_CONNECTOR_KEY = re.compile(r"[a-z][a-z0-9-]*")
_FIELD_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_CLIENT_AUTH = {"client_secret_basic": "basic", "client_secret_post": "post"}


def _connector_key(value: str) -> str:
    if "_" in value:
        raise ValueError(
            "a connector key has no underscore: tool names are `<connector>_<action>`, and clients cut them "
            "at the first `_`; use `-` or nothing"
        )
    if not _CONNECTOR_KEY.fullmatch(value):
        raise ValueError("a connector key is made of a-z, 0-9 and `-`, and begins with a letter")
    return value


def _field_key(value: str) -> str:
    if not _FIELD_KEY.fullmatch(value):
        raise ValueError("a field key is made of letters, digits and `_`, and begins with a letter")
    if value in RESERVED_FIELDS:
        raise ValueError(f"`{value}` is taken by the platform; choose another field key")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name is made of a-z, 0-9, `_` and `-`, and begins with a letter")
    return value


def _scopes(value: Any) -> Any:
    value = words(value)
    return dict.fromkeys(value) if isinstance(value, list) else value


def _client_auth(value: Any) -> Any:
    return _CLIENT_AUTH.get(value, value) if isinstance(value, str) else value


FieldKey = Annotated[str, AfterValidator(_field_key)]
Name = Annotated[str, AfterValidator(_name)]
Scopes = Annotated[
    dict[str, str | None],
    BeforeValidator(_scopes, json_schema_input_type=str | list[str] | dict[str, str | None]),
]


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


class SendSpec(Spec):
    """Where the access token goes: a header or a query parameter."""

    header: str | None = None
    query: str | None = None
    value: Text = "${access_token}"

    @model_validator(mode="after")
    def _one_place(self) -> SendSpec:
        exactly_one("send", self.model_fields_set, ("header", "query"))
        return self


class KeepSpec(Spec):
    """A value of the token answer that later calls need."""

    path: str
    pattern: Pattern | None = None


Keep = dict[FieldKey, Annotated[KeepSpec, BeforeValidator(short("path"), json_schema_input_type=str | KeepSpec)]]
Send = Annotated[
    SendSpec,
    BeforeValidator(
        lambda value: {"header": "Authorization", "value": value} if isinstance(value, str) else value,
        json_schema_input_type=str | SendSpec,
    ),
]


class CallbackKeepSpec(Spec):
    """A query parameter of the callback that later calls need."""

    param: str
    pattern: Pattern | None = None


Algorithm = Literal["ES256", "PS256", "RS256", "EdDSA"]


class RefreshSpec(Spec):
    """What is known of the provider's refresh tokens. A key that is left out stands for the strictest."""

    rotates: bool = True
    grace_seconds: Seconds = 0
    revokes_old_access_token: bool = True
    lifetime: Seconds | None = None
    idle: Seconds | None = None
    buffer: Seconds | None = None


class AssertionSpec(Spec):
    """What the assertion of `jwt_bearer` (RFC 7523 §3) or `saml_bearer` (RFC 7522 §3) says.

    It is signed with the field `private_key`.
    """

    issuer: Text
    subject: Text | None = None
    audience: Text | None = None
    algorithm: Algorithm = "RS256"
    lifetime: Annotated[Seconds, Field(ge=30, le=3600)] = 300
    claims: dict[str, Text] = Field(default_factory=dict)
    scopes: bool = False
    encoding: Literal["base64url", "base64"] = "base64url"


class ThenKeepSpec(Spec):
    """A value of the answer to `then` that calls need: at a dotted path, or what `value` makes of `response.body`."""

    path: str | None = None
    value: Text | None = None
    pattern: Pattern | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ThenKeepSpec:
        exactly_one("a kept value", self.model_fields_set, ("path", "value"))
        return self


class ThenSpec(CallSpec):
    """A request with the fresh access token, whose answer holds what calls need."""

    query: dict[str, Text] = Field(default_factory=dict)
    form: dict[str, Text] = Field(default_factory=dict)
    keep: dict[
        FieldKey, Annotated[ThenKeepSpec, BeforeValidator(short("path"), json_schema_input_type=str | ThenKeepSpec)]
    ]

    @model_validator(mode="after")
    def _one_request(self) -> ThenSpec:
        exactly_one("then", self.model_fields_set, VERBS)
        if self.form and self.body is not None:
            raise ValueError("`then` sends `body` (JSON) or `form`, not both")
        return self


class OAuth2Spec(Spec):
    """OAuth 2.0 (RFC 6749)."""

    grant: Annotated[
        Literal["authorization_code", "client_credentials", "jwt_bearer", "saml_bearer"],
        Field(validation_alias=AliasChoices("grant", "grant_type")),
    ] = "authorization_code"
    authorize_url: Text | None = Field(
        default=None, validation_alias=AliasChoices("authorize_url", "authorization_url")
    )
    token_url: Text
    refresh_url: Text | None = None
    revoke_url: Text | None = Field(default=None, validation_alias=AliasChoices("revoke_url", "revocation_url"))
    par_url: Text | None = Field(
        default=None, validation_alias=AliasChoices("par_url", "pushed_authorization_request_endpoint")
    )
    issuer: Text | None = None
    iss_required: bool = False
    scopes: Scopes = Field(default_factory=dict)
    scope_separator: str = Field(default=" ", min_length=1, max_length=3)
    pkce: bool = True
    client_auth: Annotated[ClientAuth, BeforeValidator(_client_auth)] = Field(
        default="basic",
        validation_alias=AliasChoices("client_auth", "token_auth_method", "token_endpoint_auth_method"),
    )
    assertion_algorithm: Algorithm = "ES256"
    assertion: AssertionSpec | None = None
    token_body: Literal["form", "json"] = "form"
    token_format: Literal["auto", "json", "form"] = "auto"
    token_path: Strings = Field(default=["access_token"], min_length=1)
    refresh_token_path: Strings = Field(default=["refresh_token"], min_length=1)
    token_types: Strings = Field(default_factory=list)
    authorize_params: dict[str, Text] = Field(default_factory=dict)
    token_params: dict[str, Text] = Field(default_factory=dict)
    token_headers: dict[str, Text] = Field(default_factory=dict)
    keep: Keep = Field(default_factory=dict)
    callback_keep: dict[
        FieldKey,
        Annotated[CallbackKeepSpec, BeforeValidator(short("param"), json_schema_input_type=str | CallbackKeepSpec)],
    ] = Field(default_factory=dict)
    expires_in: Seconds | None = None
    then: ThenSpec | None = None
    send: Send = SendSpec(header="Authorization", value="Bearer ${access_token}")
    refresh: RefreshSpec = RefreshSpec()

    @property
    def kept_patterns(self) -> dict[str, str | None]:
        """The names that `keep`, `callback_keep` and `then.keep` add to the scope, with their patterns."""
        patterns = {name: keep.pattern for name, keep in self.keep.items()}
        if self.then is not None:
            patterns |= {name: keep.pattern for name, keep in self.then.keep.items()}
        return patterns | {name: keep.pattern for name, keep in self.callback_keep.items()}


class SessionSpec(CallSpec):
    """A login of the provider's own: a request with what people typed, answered with a token for the calls."""

    query: dict[str, Text] = Field(default_factory=dict)
    form: dict[str, Text] = Field(default_factory=dict)
    token: str = "token"  # dotted path in the answer; empty when the answer is the token itself
    expires_in: Seconds | None = None
    keep: Keep = Field(default_factory=dict)
    send: Send = SendSpec(header="Authorization", value="Bearer ${access_token}")

    @model_validator(mode="after")
    def _one_request(self) -> SessionSpec:
        exactly_one("a session", self.model_fields_set, VERBS)
        if self.form and self.body is not None:
            raise ValueError("a session sends `body` (JSON) or `form`, not both")
        return self

    @property
    def kept_patterns(self) -> dict[str, str | None]:
        """The names that `keep` adds to the scope, with their patterns."""
        return {name: keep.pattern for name, keep in self.keep.items()}


class Aws4Spec(Spec):
    """AWS Signature Version 4."""

    service: PlainText
    region: Text
    access_key: Text
    secret_key: Text
    session_token: Text | None = None


class OAuth1Spec(Spec):
    """OAuth 1.0a (RFC 5849) with a token that was made at the provider."""

    consumer_key: Text
    consumer_secret: Text
    token: Text | None = None
    token_secret: Text | None = None
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA1"
    realm: Text | None = None


class HmacBasicSpec(Spec):
    """HTTP Basic whose password is an HMAC of the request."""

    username: Text
    secret: Text
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA1"


class HmacSpec(Spec):
    """A header, or with `username` the password of HTTP Basic, that is an HMAC of the request."""

    secret: Text
    username: Text | None = None
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA256"
    header: PlainText = Field(default="X-Signature", pattern=r"^[A-Za-z0-9-]+$")
    prefix: PlainText | None = None  # hmac-sha256, and so on; before the signature, in the header
    date: Literal["iso8601", "rfc2822"] = "iso8601"
    host: bool = False  # whether the host is signed as well
    body: Literal["hash", "parameters"] = "hash"  # what is signed of it: all, or the parameters of a form


class MtlsSpec(Spec):
    """Mutual TLS: the certificate with its chain, and its private key, both as PEM."""

    certificate: Text
    private_key: Text


class SignSpec(Spec):
    """How each request is signed; exactly one of them."""

    aws4: Aws4Spec | None = None
    oauth1: OAuth1Spec | None = None
    hmac_basic: HmacBasicSpec | None = None
    hmac: HmacSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> SignSpec:
        _ = self.algorithm
        return self

    @property
    def algorithm(self) -> Signing:
        """The one that is given. Raises ValueError when there is not exactly one."""
        return exactly_one("sign", self.model_fields_set, ("aws4", "oauth1", "hmac_basic", "hmac"))  # type: ignore[return-value]

    @property
    def texts(self) -> dict[str, str]:
        """Its values as they are written."""
        given = getattr(self, self.algorithm)
        values = given.model_dump(exclude_none=True).items()
        return {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in values}


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
