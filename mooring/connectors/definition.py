"""The one internal form of a connector. The engine sees only this, never YAML.

Front ends (the native format in `spec.py`, later `.s1.yaml` and OpenAPI) compile into these frozen values with every
template already parsed. Templates of an auth method see one flat scope: the account's fields, the operator's app fields
(`client_id`, `client_secret`, ...), `access_token`, and whatever `oauth2.keep` took from the token answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mooring.protocol.template import Template

ID_TOKEN: Final = "id_token"  # kept of a token answer only where calls carry it (OpenID Connect Core §2)
FieldType = Literal["text", "password", "number", "select", "text_area"]
Grant = Literal["authorization_code", "client_credentials", "jwt_bearer", "saml_bearer", "session"]
ClientAuth = Literal["basic", "basic_raw", "post", "private_key_jwt", "client_secret_jwt", "none"]
Kind = Literal["none", "basic", "bearer", "header", "query", "body", "path", "mtls", "oauth2", "session", "sign"]
Signing = Literal["aws4", "oauth1", "hmac_basic", "hmac"]
Stage = Literal["ga", "beta", "draft"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value that a person types: an end user (`fields`) or the operator (`app_fields`)."""

    key: str
    label: str
    type: FieldType = "text"
    required: bool = True
    secret: bool = False
    placeholder: str | None = None
    help: str | None = None
    options: tuple[tuple[str, str], ...] = ()  # (value, label)
    pattern: str | None = None  # anchored by the engine: the whole value must match
    pattern_error: str | None = None
    default: str | None = None
    read_only: bool = False
    lifetime_seconds: int | None = None  # the provider ends such a key this long after it was made


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """An HTTP request of a connector. `url` is a path under the base URL, or a whole https URL."""

    method: str
    url: Template
    query: Mapping[str, Template] = field(default_factory=dict)
    headers: Mapping[str, Template] = field(default_factory=dict)
    body: Any = None  # a YAML tree whose string leaves are Template; None sends no body
    form: Mapping[str, Template] | None = None  # sent form-encoded, instead of a body


@dataclass(frozen=True, slots=True)
class TestRequest:
    """The cheap call that proves a credential. `ok` holds the accepted statuses; `fail_when` finds a 200-with-error."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    request: RequestTemplate
    ok: tuple[int, ...] = ()  # empty: any 2xx
    fail_when: tuple[str, ...] = ()  # dotted paths of the JSON answer; a present and truthy value means refusal
    identity: str | None = None  # dotted path of the JSON answer that names the upstream account
    identity_label: str | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """What is known of a provider's refresh tokens. The defaults assume the strictest provider (rule R9)."""

    rotates: bool = True
    grace_seconds: int = 0
    revokes_old_access_token: bool = True
    lifetime_seconds: int | None = None
    idle_seconds: int | None = None
    buffer_seconds: int | None = None  # refresh this long before expiry; None: the engine decides


@dataclass(frozen=True, slots=True)
class Assertion:
    """The signed assertion of the grants `jwt_bearer` (RFC 7523 §2.1 and §3) and `saml_bearer` (RFC 7522 §2.1 and §3)."""

    issuer: Template
    subject: Template | None = None  # None: the issuer
    audience: Template | None = None  # None: the token endpoint
    algorithm: str = "RS256"
    lifetime_seconds: int = 300
    claims: Mapping[str, Template] = field(default_factory=dict)  # of SAML: its attributes
    encoding: Literal["base64url", "base64"] = "base64url"  # of SAML, in the request
    holds_scopes: bool = False  # the scopes go into the assertion instead of the request


@dataclass(frozen=True, slots=True)
class LoginStep:
    """A request with the fresh access token, whose answer holds what calls need (`then`)."""

    request: RequestTemplate
    keep: Mapping[
        str, str | Template
    ]  # scope name -> dotted path in its answer, or a template that sees `response.body`


@dataclass(frozen=True, slots=True)
class OAuth2:
    """How to obtain and renew a token (RFC 6749), with the switches that real providers need.

    The grant `session` is no OAuth: a provider's own `login`, whose token lives and is renewed like one of client
    credentials.
    """

    grant: Grant
    token_url: Template
    authorize_url: Template | None = None
    refresh_url: Template | None = None
    revoke_url: Template | None = None
    par_url: Template | None = None  # where authorization requests are pushed to (RFC 9126)
    issuer: Template | None = None  # compared with `iss` (RFC 9207) when the callback carries one
    iss_required: bool = False
    scopes: tuple[str, ...] = ()  # asked for by default
    scope_reasons: Mapping[str, str] = field(default_factory=dict)
    scope_separator: str = " "
    pkce: bool = True  # S256; off only by an explicit `pkce: false`, which `connectors show` displays
    client_auth: ClientAuth = "basic"
    token_body: Literal["form", "json"] = "form"
    token_format: Literal["auto", "json", "form"] = "auto"
    token_path: tuple[str, ...] = ("access_token",)  # dotted paths in the token answer; the first that leads to one
    refresh_token_path: tuple[str, ...] = ("refresh_token",)
    token_types: tuple[str, ...] = ()  # accepted beside Bearer, in any case
    authorize_params: Mapping[str, Template] = field(default_factory=dict)
    token_params: Mapping[str, Template] = field(default_factory=dict)
    token_headers: Mapping[str, Template] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)  # scope name -> dotted path in the token answer
    keep_patterns: Mapping[str, str] = field(default_factory=dict)  # the whole kept value must match
    callback_keep: Mapping[str, str] = field(default_factory=dict)  # scope name -> callback query parameter
    default_expires_in: int | None = None  # used when the answer has no expires_in
    assertion_algorithm: str = "ES256"  # private_key_jwt
    refresh: Refresh = Refresh()
    assertion: Assertion | None = None  # of the grant `jwt_bearer`
    login: RequestTemplate | None = None  # of the grant `session`
    then: LoginStep | None = None
    scope_templates: Mapping[str, Template] = field(default_factory=dict)  # of the scopes that hold values

    @property
    def machine(self) -> bool:
        """Whether tokens come without a consent page, from what the account holds; then there is no refresh token."""
        return self.grant != "authorization_code"


@dataclass(frozen=True, slots=True)
class Signature:
    """How each request is signed (`mooring.protocol.signatures`)."""

    algorithm: Signing
    values: Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class BodyCredential:
    """Values that are merged into the JSON object of each request's body, or into that in one `field` of its form."""

    values: Mapping[str, Any]
    field: str | None = None


@dataclass(frozen=True, slots=True)
class AuthMethod:
    """One way to authenticate. Its key is the API's `authentication_config_key`."""

    key: str
    label: str
    kind: Kind
    base_url: Template
    fields: tuple[Field, ...] = ()
    app_fields: tuple[Field, ...] = ()  # oauth2 implies client_id and client_secret; they are listed here too
    headers: Mapping[str, Template] = field(default_factory=dict)  # credential and fixed headers, names as written
    query: Mapping[str, Template] = field(default_factory=dict)
    basic: tuple[Template, Template] | None = None  # user name, password (RFC 7617)
    body: BodyCredential | None = None
    mtls: tuple[Template, Template] | None = None  # client certificate and private key, PEM (RFC 8446 §4.3.2)
    oauth2: OAuth2 | None = None
    signature: Signature | None = None
    test: TestRequest | None = None
    permissions: tuple[str, ...] = ()
    notice: str | None = None
    external_trigger: bool = False  # show the session's External Trigger Token in the form

    @property
    def secret_in_url(self) -> bool:
        """Whether the base URL itself holds a secret, so that it is shown nowhere."""
        return bool(
            self.base_url.names & ({f.key for f in (*self.fields, *self.app_fields) if f.secret} | {"access_token"})
        )

    @property
    def secret_keys(self) -> frozenset[str]:
        """Keys of the account's fields that are sealed and never shown."""
        return frozenset(f.key for f in self.fields if f.secret)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer of the provider means: the conditions that are given must all hold."""

    status: str | None = None  # 404, or a class such as 4xx
    when: Template | None = None
    text: str | None = None  # lower case
    cause: str | None = None  # of the diagnosis table
    outcome: str | None = None
    message: Template | None = None


@dataclass(frozen=True, slots=True)
class EventSignature:
    """How a provider signs the webhooks that it sends: an HMAC of `signed`, keyed with the endpoint's secret."""

    header: str
    algorithm: Literal["sha1", "sha256", "sha512"]
    encoding: Literal["hex", "base64"]
    prefix: str
    part: str | None
    timestamp_part: str | None
    timestamp: Template | None
    tolerance: float  # seconds
    signed: Template
    secret_encoding: Literal["text", "base64", "hex"]


@dataclass(frozen=True, slots=True)
class Events:
    """How webhooks of the provider come in: verified in one way, then read."""

    signature: EventSignature | None = None
    token_header: str | None = None
    token_query: str | None = None
    token_basic: bool = False
    standard_webhooks: bool = False
    id: Template | None = None
    type: Template | None = None
    account: Template | None = None
    items: str | None = None
    challenge: Template | None = None

    @property
    def needs_secret(self) -> bool:
        """Whether an endpoint has a secret besides its address."""
        return bool(
            self.signature or self.token_header or self.token_query or self.token_basic or self.standard_webhooks
        )


@dataclass(frozen=True, slots=True)
class UnrunnableAction:
    """An action that is known and can't be run, with the reason."""

    key: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Connector:
    """A third-party system of the catalogue."""

    key: str
    version: str
    title: str
    categories: tuple[str, ...]
    auth: Mapping[str, AuthMethod]
    docs: str | None = None
    website: str | None = None
    stage: Stage = "ga"
    description: str | None = None
    headers: Mapping[str, Template] = field(default_factory=dict)  # sent with every call unless the caller sets them
    limits: Mapping[str, Any] = field(default_factory=dict)
    first_byte_seconds: float = 60.0  # of a proxied call, until its answer begins
    idle_seconds: float = 30.0  # between two parts of that answer
    page: Mapping[str, Any] = field(default_factory=dict)
    actions: Mapping[str, Any] = field(default_factory=dict)  # actions.Action, or UnrunnableAction
    meanings: tuple[Meaning, ...] = ()  # the file's `errors`
    events: Events | None = None  # how its own webhooks come in
    probe: bool = True  # health probes may send the test request now and then
    echo_allowed: bool = False  # P8: the provider may echo the injected secret to the caller
    builtin: bool = True
    source: str = ""  # file name, for messages
    logo: str | None = None  # file beside the definition
    guide: str | None = None  # Markdown, if a guide stands beside the definition
