"""Actions in the internal form: named calls with typed inputs. The engine in `mooring.actions` runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mooring.connectors.definition import Meaning, Stage
from mooring.connectors.s1.program import Program
from mooring.protocol.template import Template

Place = Literal["path", "query", "headers", "body"]
PLACES: Final[tuple[Place, ...]] = ("path", "query", "headers", "body")
PATH_INPUT: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")  # `{id}` in a path
Encoding = Literal["json", "form", "multipart", "file"]
PagingStyle = Literal["cursor", "link", "offset", "page"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its JSON Schema, and where it goes in the request."""

    name: str
    place: Place
    required: bool
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Paging:
    """How a list goes on. `where` is the dotted path of the next cursor or link, `header`, or the name of a parameter."""

    style: PagingStyle
    where: str
    param: str | None = None  # that takes the cursor
    place: Literal["query", "body", "headers"] = "query"
    size_param: str | None = None
    size: int | None = None
    start: int | None = None
    items: str | None = None
    total: str | None = None
    more: str | None = None
    stop_when: Template | None = None


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One HTTP request. `path` holds `{name}` for inputs; leaves of trees are templates, left out without a value."""

    method: str
    path: Template
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Template] = field(default_factory=dict)
    body: Any = None
    send_as: Encoding = "json"
    files: tuple[str, ...] = ()  # inputs that are files, where the inputs are the body
    base_url: Template | None = None  # of the account's values, instead of its method's


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an action: a request, a call of another action, or values that are put together."""

    id: str
    request: ActionRequest | None = None
    call: str | None = None
    python: str | None = None  # `package.module:name`
    values: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of `call`
    when: Template | None = None
    each: Template | None = None
    parallel: int = 1
    paging: Paging | None = None
    items: str | None = None
    meanings: tuple[Meaning, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """A named call of a connector."""

    key: str
    label: str
    help: str | None = None
    docs: str | None = None
    stage: Stage = "ga"
    tags: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    internal: bool = False
    inputs: tuple[Input, ...] = ()
    request: ActionRequest | None = None
    steps: tuple[Step, ...] = ()
    paging: Paging | None = None
    limits: Mapping[str, Any] | None = None  # rates of this action, beside its connector's
    items: str | None = None
    result: Any = None
    unified: str | None = None
    mapping: Any = None
    meanings: tuple[Meaning, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()
    program: Program | None = None  # of a `.s1.yaml` file, instead of a request or steps

    @property
    def paged(self) -> bool:
        """Whether its answer can have a `next`."""
        if self.program is not None:
            return self.program.paged
        return self.paging is not None and self.request is not None

    @property
    def reads(self) -> bool:
        """Whether it changes nothing at the provider."""
        return set(self.effects) <= {"read", "search"}

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments, grouped as they are given: `path`, `query`, `headers`, `body`."""
        groups: dict[str, Any] = {}
        required: list[str] = []
        for place in PLACES:
            inputs = [i for i in self.inputs if i.place == place]
            properties = {i.name: dict(i.schema) for i in inputs}
            if place == "query" and (self.paging is not None or self.paged):
                properties.setdefault("next", {"type": "string", "description": "`next` of the page before."})
                if self.paging is None or self.paging.size_param is not None:
                    properties.setdefault("page_size", {"type": "integer", "minimum": 1, "maximum": 1000})
            if not properties:
                continue
            groups[place] = {"type": "object", "properties": properties, "additionalProperties": False}
            if needed := [i.name for i in inputs if i.required]:
                groups[place]["required"] = needed
                required.append(place)
        out: dict[str, Any] = {"type": "object", "properties": groups, "additionalProperties": False}
        if required:
            out["required"] = required
        return out
