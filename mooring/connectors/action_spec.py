"""The part of the native format that describes calls: actions, paging, limits, errors.

`compile_actions` turns them into the internal form, which `mooring.actions` runs.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mooring.connectors.definition import Stage
from mooring.connectors.spec_types import (
    Spec,
    Strings,
    Text,
    as_list,
    exactly_one,
    plain_text,
    short,
    words,
)
from mooring.diagnosis.table import CAUSES

VERBS = ("get", "post", "put", "patch", "delete")
_STATUS = re.compile(r"[1-5](\d\d|xx)")
_INPUT = re.compile(r"(string|integer|number|boolean|datetime|object|file)(\[\])?!?")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_PATH = re.compile(r"/(?!/)|\?|https?://|\$\{")

Encoding = Literal["json", "form", "multipart", "file"]
Effect = Literal["read", "write", "delete", "search", "execute"]
Outcome = Literal[
    "not_found", "rate_limited", "auth_expired", "forbidden", "conflict", "invalid", "retry", "ignore", "fail"
]


def _path(value: str) -> str:
    if not _PATH.match(value):
        raise ValueError("a path begins with one `/`; a whole URL with `https://`")
    return value


def _status(value: str) -> str:
    if not _STATUS.fullmatch(value):
        raise ValueError("a status is a number such as 404, or a class such as 5xx")
    return value


def _input(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not _INPUT.fullmatch(value):
        raise ValueError(
            "an input is string, integer, number, boolean, datetime, object or file, with [] for a list "
            "and ! when required; or a JSON Schema"
        )
    return value


def _cause(value: str) -> str:
    if value not in CAUSES:
        near = difflib.get_close_matches(value, CAUSES, 1)
        hint = f"did you mean `{near[0]}`?" if near else "docs/causes.md lists them"
        raise ValueError(f"`{value}` is no cause; {hint}")
    return value


def _error_rules(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return [{"status": status} | (rule if isinstance(rule, dict) else {"as": rule}) for status, rule in value.items()]


def _function(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise ValueError("a function is written `package.module:name`")
    return value


Path = Annotated[Text, AfterValidator(_path)]
Function = Annotated[str, AfterValidator(_function)]
Status = Annotated[str, BeforeValidator(plain_text, json_schema_input_type=str | int), AfterValidator(_status)]
Input = Annotated[Any, BeforeValidator(_input, json_schema_input_type=str | dict[str, Any])]


class PageSpec(Spec):
    """How a list goes on. Given at the top it is inherited by every action with `page: true`."""

    cursor: str | None = None  # dotted path of the answer that holds the next cursor
    link: str | None = None  # `header` (RFC 8288), or the dotted path that holds the next URL
    offset: str | None = None  # name of the parameter that counts records
    page: str | None = None  # name of the parameter that counts pages
    param: str | None = None  # where the cursor goes
    in_: Literal["query", "body", "headers"] = Field(default="query", alias="in")
    size_param: str | None = None
    size: int | None = Field(default=None, ge=1)
    start: int | None = Field(default=None, ge=0)
    items: str | None = None  # dotted path of the list in the answer
    total: str | None = None
    more: str | None = None  # dotted path of a flag that says there is more
    stop_when: Text | None = None

    @model_validator(mode="after")
    def _one_style(self) -> PageSpec:
        styles = [style for style in ("cursor", "link", "offset", "page") if getattr(self, style) is not None]
        if len(styles) > 1:
            raise ValueError(f"one paging style, not both `{styles[0]}` and `{styles[1]}`")
        return self


class WindowSpec(Spec):
    """A published limit of the form «110 in 10 seconds»."""

    requests: int = Field(ge=1)
    seconds: int = Field(ge=1)


class RetrySpec(Spec):
    """Which answers are tried again."""

    on: Annotated[list[Status], BeforeValidator(as_list)] = Field(default_factory=lambda: ["429"])
    max: int = Field(default=5, ge=0, le=10)
    after: str | None = None  # header that says how long to wait


class RateSpec(Spec):
    """Request rates; any of them."""

    rps: float | int | None = Field(default=None, gt=0)
    rpm: float | int | None = Field(default=None, gt=0)
    rph: float | int | None = Field(default=None, gt=0)
    rpd: float | int | None = Field(default=None, gt=0)
    window: WindowSpec | None = None
    concurrency: int | None = Field(default=None, ge=1)


class PoolSpec(RateSpec):
    """A limit for the paths that begin with `path`, in which `{name}` stands for one segment; of one method, or of all."""

    path: str = Field(pattern=r"^/")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] | None = None


class LimitsSpec(RateSpec):
    """What the provider allows, per account unless `per` says otherwise."""

    per: Literal["account", "app"] = "account"
    pools: list[PoolSpec] = Field(default_factory=list)
    retry: RetrySpec | None = None
    headers: Strings = Field(default_factory=list)  # answer headers that tell the budget
    note: str | None = None


class ErrorRule(Spec):
    """What a provider's answer means."""

    status: Status | None = None
    when: Text | None = None
    text: str | None = Field(default=None, min_length=3)  # stands in the answer, in any case
    as_: Outcome | None = Field(default=None, alias="as")
    cause: Annotated[str, AfterValidator(_cause)] | None = None
    message: Text | None = None

    @model_validator(mode="after")
    def _has_condition(self) -> ErrorRule:
        if self.status is None and self.when is None and self.text is None:
            raise ValueError("an error rule needs a status, `text`, or `when`")
        if self.as_ is None and self.cause is None:
            raise ValueError("an error rule says what an answer is with `as`, `cause`, or both")
        return self


Errors = Annotated[
    list[ErrorRule],
    BeforeValidator(_error_rules, json_schema_input_type=dict[str, Outcome | dict[str, Any]] | list[dict[str, Any]]),
]


class CallSpec(Spec):
    """One HTTP request: exactly one of the verbs with its path."""

    get: Path | None = None
    post: Path | None = None
    put: Path | None = None
    patch: Path | None = None
    delete: Path | None = None
    headers: dict[str, Text] = Field(default_factory=dict)
    body: Any = None
    base_url: Text | None = None  # instead of the connector's, for one call

    @property
    def verb(self) -> str | None:
        """The verb that is given."""
        return next((verb for verb in VERBS if getattr(self, verb) is not None), None)

    @property
    def path(self) -> str:
        """The path of the given verb."""
        return str(getattr(self, self.verb or "get"))


class StepSpec(CallSpec):
    """One step of an action that needs more than one call."""

    id: str | None = None
    call: str | None = None  # another action
    python: Function | None = None  # of an installed package
    set: dict[str, Any] | None = None
    input: dict[str, Any] | None = None
    query: dict[str, Any] = Field(default_factory=dict)
    send_as: Encoding = "json"
    when: Text | None = None
    each: Text | None = None
    parallel: int | None = Field(default=None, ge=1, le=50)
    page: bool | PageSpec | None = None
    items: str | None = None
    errors: Errors = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_kind(self) -> StepSpec:
        exactly_one("a step", self.model_fields_set, (*VERBS, "call", "python", "set"))
        return self


class ReplySpec(Spec):
    """A recorded provider answer for a test."""

    match: str | None = None
    status: int = 200
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    file: str | None = None


class ActionTestSpec(Spec):
    """A test beside the action."""

    name: str | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    replies: list[ReplySpec] = Field(default_factory=list)
    expect: Any = None


class ExampleSpec(Spec):
    """An example for people and models."""

    title: str | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    output: Any = None


class ActionSpec(CallSpec):
    """A named call."""

    later: ClassVar[frozenset[str]] = frozenset({"sync", "events"})

    label: str | None = None
    help: str | None = None
    docs: str | None = None
    stage: Stage | None = None
    tags: Strings = Field(default_factory=list)
    internal: bool = False
    page: bool | PageSpec | None = None
    input: dict[str, Input] = Field(default_factory=dict)
    query: dict[str, Any] = Field(default_factory=dict)
    send_as: Encoding = "json"
    items: str | None = None
    result: Any = None
    limits: RateSpec | None = None  # beside those of the connector
    unified: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]*/[a-z][a-z0-9_]*$")
    map: str | dict[str, Any] | None = None  # another action's name, or the mapping itself
    scopes: Annotated[list[str], BeforeValidator(words, json_schema_input_type=str | list[str])] = Field(
        default_factory=list
    )
    effects: Annotated[list[Effect], BeforeValidator(as_list, json_schema_input_type=Effect | list[Effect])] = Field(
        default_factory=list
    )
    errors: Errors = Field(default_factory=list)
    python: Function | None = None  # of an installed package, instead of a request
    steps: list[StepSpec] = Field(default_factory=list)
    tests: list[ActionTestSpec] = Field(default_factory=list)
    examples: list[ExampleSpec] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_kind(self) -> ActionSpec:
        exactly_one("an action", self.model_fields_set, (*VERBS, "python", "steps"))
        if self.limits is not None and self.verb is None:
            raise ValueError(
                "`limits` belong to an action of one request; for steps there are `pools` of the connector"
            )
        if self.limits is not None and self.limits.concurrency is not None:
            raise ValueError("`concurrency` is a limit of the whole connector")
        return self


class TestSpec(CallSpec):
    """The cheap call that proves a credential: an action's name, or a request."""

    __test__ = False  # not a test class

    action: str | None = None
    query: dict[str, Text] = Field(default_factory=dict)
    ok: Annotated[list[int], BeforeValidator(as_list, json_schema_input_type=int | list[int])] = Field(
        default_factory=list
    )
    fail_when: Strings = Field(default_factory=list)
    identity: str | None = None
    identity_label: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> TestSpec:
        exactly_one("a test", self.model_fields_set, (*VERBS, "action"))
        return self


Test = Annotated[TestSpec, BeforeValidator(short("action"), json_schema_input_type=str | TestSpec)]
