"""Actions of `.s1.yaml` files in the internal form: steps of step functions, every expression compiled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mooring.connectors.s1.expressions import S1Expression

ArgPlace = Literal["query", "body", "headers"]
PagingMode = Literal["cursor", "offset", "page"]
DEFAULT_PAGE_SIZE: Final = 25  # records that a paginated step gathers when the caller names no number

COUNTRY_MATCHER: Final = re.compile(
    r"country_(?P<to>alpha2code|alpha3code|code|name)_by_(?P<by>alpha2code|alpha3code|country_code|country_name)"
)
"""The named matchers of enums that turn one way to write a country into another."""
PLACE_MATCHERS: Final = frozenset(
    {
        "country_alpha2code_by_citizenship",
        "country_subdivisions_by_alpha2code",
        "country_subdivision_code_by_subdivision_name",
        "country_subdivision_name_by_subdivision_code",
    }
)
"""The other named matchers of enums that read countries or parts of them."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of an HTTP step. A tree holds an S1Expression wherever the file has a text with one."""

    name: Any
    value: Any
    place: ArgPlace
    condition: S1Expression | None = None
    spread: bool = False
    inline: bool = False
    array_format: str | None = None


@dataclass(frozen=True, slots=True)
class CustomError:
    """What a status of the provider is turned into."""

    received: int
    target: int
    message: S1Expression | None = None
    condition: S1Expression | None = None


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """Where the data of an answer is, and where its next page."""

    data: str | None = None
    index_field: str | None = None
    collection: bool = False
    next: str | None = None
    next_in_headers: bool = False


@dataclass(frozen=True, slots=True)
class PageRule:
    """How a paginated step asks for its next page."""

    key: str
    place: Literal["query", "body"] = "query"
    mode: PagingMode = "cursor"
    start: int = 1
    most: int = 1000
    condition: S1Expression | None = None


@dataclass(frozen=True, slots=True)
class HttpStep:
    """`request`, `paginated_request` and `soap_request`."""

    method: str
    url: S1Expression
    base: S1Expression | None = None
    args: tuple[Arg, ...] = ()
    authorization: Mapping[str, Any] | None = None  # instead of the connector's own
    certificates: tuple[Any, Any] | None = None  # the client certificate and its private key, for mutual TLS
    response: ResponseRule = ResponseRule()
    errors: tuple[CustomError, ...] = ()
    raw_query: bool = False
    paging: PageRule | None = None
    soap: Soap | None = None
    upload: Upload | None = None
    download: Mapping[str, Any] | None = None
    saml: Mapping[str, Any] | None = None  # the parameters of an assertion that goes into the body


@dataclass(frozen=True, slots=True)
class Soap:
    """What a SOAP call has besides its HTTP request."""

    operation: str = ""
    action: Any = None
    namespaces: tuple[tuple[Any, Any], ...] = ()  # prefix, URI
    user_token: bool = True  # WS-Security UsernameToken from the credential
    envelope: Any = None  # the file's own: an expression, or a tree of elements


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that is a file: multipart with a field name, the bytes alone without one."""

    content: Any  # base64
    content_type: Any = None
    field_name: Any = None
    filename: Any = None
    more: tuple[tuple[Any, Any, S1Expression | None, Any], ...] = ()  # name, value, condition, content type


@dataclass(frozen=True, slots=True)
class MappedField:
    """One field of `map_fields` and `typecast`."""

    key: str
    type: str = "string"
    expression: S1Expression | None = None
    values: tuple[Any, ...] | None = None
    array: bool = False
    custom: bool = False
    matcher: str | tuple[tuple[S1Expression, Any], ...] | None = None
    properties: tuple[MappedField, ...] | None = None


@dataclass(frozen=True, slots=True)
class DataStep:
    """A step function that makes data of data: map_fields, typecast, group_data, static_values, emit_event, sign_jwt."""

    kind: str
    fields: tuple[MappedField, ...] = ()
    source: S1Expression | None = None
    external: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of an action."""

    id: str
    functions: tuple[HttpStep | DataStep, ...]
    condition: S1Expression | None = None
    stop_on_condition_error: bool = False
    iterator: S1Expression | None = None
    ignore_error: bool = False
    success: S1Expression | None = None


@dataclass(frozen=True, slots=True)
class InputRule:
    """A rule over several inputs: `atLeastOneOf`, `mutuallyExclusive` or `requiredIf`."""

    kind: str
    fields: tuple[str, ...]
    condition: Mapping[str, Any] = field(default_factory=dict)
    message: str | None = None


@dataclass(frozen=True, slots=True)
class CompositeId:
    """A field of the result that is made of several others."""

    target: str
    components: tuple[tuple[str, str], ...]  # name in the record, name in the id


@dataclass(frozen=True, slots=True)
class Program:
    """What an action of a `.s1.yaml` file does."""

    phases: tuple[Phase, ...]
    result: Any = None
    strict: bool = False
    rules: tuple[InputRule, ...] = ()
    ids: tuple[CompositeId, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)  # `type` of each auth method, as the file has it
    oauth: frozenset[str] = frozenset()  # auth methods whose credentials have the names of OAuth

    @property
    def paged(self) -> bool:
        """Whether one of its steps goes through pages by itself."""
        return any(isinstance(f, HttpStep) and f.paging is not None for phase in self.phases for f in phase.functions)
