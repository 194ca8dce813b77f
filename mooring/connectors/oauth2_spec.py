"""How tokens are obtained and sent, as it is written in YAML: OAuth 2.0, and logins of a provider's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from mooring.connectors.action_spec import VERBS, CallSpec
from mooring.connectors.definition import ClientAuth
from mooring.connectors.field_spec import FieldKey
from mooring.connectors.spec_types import Pattern, Seconds, Spec, Strings, Text, exactly_one, short, words

_CLIENT_AUTH = {"client_secret_basic": "basic", "client_secret_post": "post"}


def _scopes(value: Any) -> Any:
    value = words(value)
    return dict.fromkeys(value) if isinstance(value, list) else value


def _client_auth(value: Any) -> Any:
    return _CLIENT_AUTH.get(value, value) if isinstance(value, str) else value


Scopes = Annotated[
    dict[str, str | None],
    BeforeValidator(_scopes, json_schema_input_type=str | list[str] | dict[str, str | None]),
]


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
