"""The requests of a connector's actions as they leave, with what is known of each value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from mooring.connectors.actions import PATH_INPUT, Action, ActionRequest, Input, Paging
from mooring.connectors.definition import Connector
from mooring.connectors.yaml_source import Location
from mooring.protocol.template import Template

HOLE: Final = "{}"  # what is filled in when a path is used
BRACES: Final = re.compile(r"\{[^{}]*\}")
PLAIN: Final = frozenset({"string", "integer", "number", "boolean", "array", "object"})
_AUTHORITY: Final = re.compile(r"^(?:https?:)?//[^/]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the connector sends it: the path below the base URL, and the names with what is known of their values."""

    at: Location
    method: str
    path: str
    bases: tuple[str, ...]  # paths of the base URLs of the auth methods
    query: Mapping[str, Value]
    headers: frozenset[str]
    body: Any  # a tree of Value and mappings, None for no body
    placed: Mapping[str, Input]  # inputs of the path
    names: tuple[str, ...]  # what stands in the holes of the path, in order; empty for an expression


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a value that is sent: where it is written, its types, and whether it may be left out."""

    at: Location
    kinds: frozenset[str] = frozenset()
    optional: bool = False
    values: tuple[Any, ...] = ()  # the only ones that are sent


def path_of(url: str) -> str:
    """The path of an address whose host may be a variable: `https://{host}/v1` and `{host}/v1` give `/v1`."""
    url = BRACES.sub(HOLE, url).partition("?")[0].partition("#")[0]
    stripped = _AUTHORITY.sub("", url)
    if stripped == url and url.startswith(HOLE):
        stripped = url[len(HOLE) :]
    return "/" + stripped.strip("/") if stripped.strip("/") else ""


def requests_of(connector: Connector, action: Action) -> Iterator[Sent]:
    """Every request of an action or of its steps."""
    at: Location = ("actions", action.key)
    if action.request is not None:
        yield _sent(connector, action.request, at, action.inputs, action.paging, True)
    for index, step in enumerate(action.steps):
        if step.request is not None:
            yield _sent(connector, step.request, (*at, "steps", index), action.inputs, step.paging, False)


def _sent(
    connector: Connector,
    request: ActionRequest,
    at: Location,
    inputs: tuple[Input, ...],
    paging: Paging | None,
    whole: bool,
) -> Sent:
    """`whole` when the inputs go to their places by themselves, as in an action without steps."""
    path, names = _holes(request.path)
    path, _, inline = path.partition("?")
    query = {
        unquote(pair.partition("=")[0]): Value((*at, request.method.lower())) for pair in inline.split("&") if pair
    }
    query |= {name: _value(value, (*at, "query", name)) for name, value in request.query.items()}
    declared = {i.name: i for i in inputs}
    places: dict[str, dict[str, Value]] = {"query": query, "headers": {}, "body": {}}
    if whole:
        for one in inputs:
            if one.place != "path" and not (one.place == "body" and request.body is not None):
                places[one.place][one.name] = _of_input(one, (*at, "input", one.name))
    body: Any = places["body"] or None
    if request.body is not None:
        body = _tree(request.body, (*at, "body"))
    if paging is not None:
        body = _with_paging(paging, (*at, "page"), places, body)
    headers = {*places["headers"], *request.headers, *connector.headers}
    for method in connector.auth.values():
        headers |= set(method.headers)
    bases = [m.base_url for m in connector.auth.values()] if request.base_url is None else [request.base_url]
    return Sent(
        at=(*at, request.method.lower()),
        method=request.method.lower(),
        path=path,
        bases=tuple(dict.fromkeys(path_of(_holes(base)[0]) for base in bases)) or ("",),
        query=query,
        headers=frozenset(name.lower() for name in headers),
        body=body,
        placed={n: declared[n] for n in names if n in declared},
        names=tuple(names),
    )


def _holes(template: Template) -> tuple[str, list[str]]:
    """A template's text with `{}` where something is filled in, and the inputs that are, or an empty text."""
    names: list[str] = []
    out = ""
    for part in template.parts:
        if isinstance(part, str):
            names += PATH_INPUT.findall(part)
            out += PATH_INPUT.sub(HOLE, part)
        else:
            names.append("")
            out += HOLE
    return out, names


def kinds_of(one: Input) -> frozenset[str]:
    """The plain types that an input may have."""
    kind = one.schema.get("type")
    return frozenset(k for k in (kind if isinstance(kind, list) else [kind]) if k in PLAIN)


def _of_input(one: Input, at: Location) -> Value:
    values = one.schema.get("enum")
    optional = not one.required and "default" not in one.schema
    return Value(at, kinds_of(one), optional, tuple(values) if isinstance(values, list) else ())


def _value(value: Any, at: Location) -> Value:
    """What is known of a value as the file writes it."""
    if isinstance(value, bool):
        return Value(at, frozenset({"boolean"}), values=(value,))
    if isinstance(value, str | int | float):
        kind = "string" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"
        return Value(at, frozenset({kind}), values=(value,))
    return Value(at)


def _tree(tree: Any, at: Location) -> Any:
    if isinstance(tree, Mapping):
        return {str(k): _tree(v, (*at, k)) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_tree(v, (*at, i)) for i, v in enumerate(tree)]
    return _value(tree, at)


def _with_paging(paging: Paging, at: Location, places: dict[str, dict[str, Value]], body: Any) -> Any:
    """Add the parameters of pages to their places; returns the body with its own."""
    number = Value(at, frozenset({"integer"}))
    named: list[tuple[str, str, Value]] = []
    if paging.size_param is not None:
        named.append(("body" if paging.place == "body" else "query", paging.size_param, number))
    if paging.style == "cursor" and paging.param is not None:
        named.append((paging.place, paging.param, Value(at)))
    if paging.style in ("offset", "page"):
        named.append((paging.place, paging.where, number))
    for place, name, value in named:
        if place != "body":
            places[place].setdefault(name, value)
        elif body is None or isinstance(body, dict):
            body = {name: value, **(body or {})}
    return body
