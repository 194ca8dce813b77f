"""Compare the requests of a connector's actions with the OpenAPI document of its vendor. Pure.

A document may be old or incomplete, so a finding is something to look up, not yet a fault of the connector. Compared are
method and path, names and presence of query parameters and headers, properties of bodies that are objects, and plain types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote

from mooring.connectors.actions import PATH_INPUT, Action, ActionRequest, Input, Paging
from mooring.connectors.definition import Connector
from mooring.connectors.openapi.document import Document, Operation
from mooring.connectors.yaml_source import Location
from mooring.protocol.template import Template

Level = Literal["error", "note"]
HOLE: Final = "{}"  # what is filled in when a path is used, on either side
_DEPTH: Final = 12
_ODATA: Final = "@odata."  # annotations, which stand beside every property and which documents list by halves
_PLAIN: Final = frozenset({"string", "integer", "number", "boolean", "array", "object"})
_BRACES: Final = re.compile(r"\{[^{}]*\}")
_AUTHORITY: Final = re.compile(r"^(?:https?:)?//[^/]*", re.IGNORECASE)
# Credentials that documents list as parameters; the auth method sends them.
_CREDENTIALS: Final = frozenset(
    {"authorization", "token", "access_token", "oauth_token", "api_key", "apikey", "accept", "content-type"}
)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A difference. An `error` is a request that the document does not allow; a `note` is doubtful."""

    at: Location
    message: str
    level: Level = "error"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many actions send requests, how many are found in the document whole, how many are programs, and the findings."""

    actions: int
    found: int
    programs: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.level == "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request as the connector sends it: the path below the base URL, and the names with what is known of their values."""

    at: Location
    method: str
    path: str
    bases: tuple[str, ...]  # paths of the base URLs of the auth methods
    query: Mapping[str, _Value]
    headers: frozenset[str]
    body: Any  # a tree of _Value and mappings, None for no body
    placed: Mapping[str, Input]  # inputs of the path
    names: tuple[str, ...]  # what stands in the holes of the path, in order; empty for an expression


@dataclass(frozen=True, slots=True)
class _Value:
    """What is known of a value that is sent: where it is written, its types, and whether it may be left out."""

    at: Location
    kinds: frozenset[str] = frozenset()
    optional: bool = False
    values: tuple[Any, ...] = ()  # the only ones that are sent


@dataclass(slots=True)
class _Shape:
    """The properties of an object in a document. `open` when others may be sent, or nothing is said."""

    properties: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    open: bool = False


def against(connector: Connector, document: Document) -> Comparison:
    """Compare every action that sends a request with the document. Actions that are programs or Python are left out."""
    return _Comparer(connector, document).run()


def path_of(url: str) -> str:
    """The path of an address whose host may be a variable: `https://{host}/v1` and `{host}/v1` give `/v1`."""
    url = _BRACES.sub(HOLE, url).partition("?")[0].partition("#")[0]
    stripped = _AUTHORITY.sub("", url)
    if stripped == url and url.startswith(HOLE):
        stripped = url[len(HOLE) :]
    return "/" + stripped.strip("/") if stripped.strip("/") else ""


class _Comparer:
    def __init__(self, connector: Connector, document: Document) -> None:
        self._connector = connector
        self._document = document
        self._findings: list[Finding] = []
        servers = [str(s.get("url") or "") for s in _list(document.data, "servers") if isinstance(s, Mapping)]
        self._prefixes = tuple(dict.fromkeys(path_of(url) for url in servers)) or ("",)
        # By the form of the comparison: what the document's paths are when they are compared with the connector's.
        self._whole: dict[int, list[tuple[list[str], Operation]]] = {}
        self._bare: dict[int, list[tuple[list[str], Operation]]] = {}
        for operation in document.operations():
            path = _BRACES.sub(HOLE, operation.path).partition("?")[0].partition("#")[0]
            for prefix in dict.fromkeys((*self._prefixes, "")):  # a document may repeat its base path in each path
                segments = _segments(prefix + path)
                self._whole.setdefault(len(segments), []).append((segments, operation))
            self._bare.setdefault(len(_segments(path)), []).append((_segments(path), operation))

    def run(self) -> Comparison:
        actions = [a for a in self._connector.actions.values() if isinstance(a, Action)]
        sent = {action.key: list(self._requests(action)) for action in actions}
        sent = {key: requests for key, requests in sent.items() if requests}
        every = [request for requests in sent.values() for request in requests]
        relative = not any(self._find(request, relative=False)[1] for request in every)
        relative = relative and any(self._find(request, relative=True)[1] for request in every)
        if relative and self._prefixes != ("",):
            ours = every[0].bases[0] or "/"
            self._note(("base_url",), f"the base path is {ours} here and {self._prefixes[0] or '/'} in the document")
        found = 0
        for requests in sent.values():
            fits = [self._compare(request, relative) for request in requests]
            found += all(fits)
        programs = sum(a.program is not None or any(s.python for s in a.steps) for a in actions)
        return Comparison(len(sent), found, programs, tuple(dict.fromkeys(self._findings)))

    # What the connector sends

    def _requests(self, action: Action) -> Iterator[_Sent]:
        at: Location = ("actions", action.key)
        if action.request is not None:
            yield self._sent(action.request, at, action.inputs, action.paging, True)
        for index, step in enumerate(action.steps):
            if step.request is not None:
                yield self._sent(step.request, (*at, "steps", index), action.inputs, step.paging, False)

    def _sent(
        self, request: ActionRequest, at: Location, inputs: tuple[Input, ...], paging: Paging | None, whole: bool
    ) -> _Sent:
        """`whole` when the inputs go to their places by themselves, as in an action without steps."""
        path, names = _holes(request.path)
        path, _, inline = path.partition("?")
        query = {
            unquote(pair.partition("=")[0]): _Value((*at, request.method.lower())) for pair in inline.split("&") if pair
        }
        query |= {name: _value(value, (*at, "query", name)) for name, value in request.query.items()}
        declared = {i.name: i for i in inputs}
        places: dict[str, dict[str, _Value]] = {"query": query, "headers": {}, "body": {}}
        if whole:
            for one in inputs:
                if one.place != "path" and not (one.place == "body" and request.body is not None):
                    places[one.place][one.name] = _of_input(one, (*at, "input", one.name))
        body: Any = places["body"] or None
        if request.body is not None:
            body = _tree(request.body, (*at, "body"))
        if paging is not None:
            body = _with_paging(paging, (*at, "page"), places, body)
        headers = {*places["headers"], *request.headers, *self._connector.headers}
        for method in self._connector.auth.values():
            headers |= set(method.headers)
        bases = [m.base_url for m in self._connector.auth.values()] if request.base_url is None else [request.base_url]
        return _Sent(
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

    # Finding it in the document

    def _find(self, sent: _Sent, *, relative: bool) -> tuple[str, list[tuple[list[str], Operation]]]:
        """The path that was looked for, and the operations whose paths fit it, best first."""
        for base in ("",) if relative else sent.bases:
            segments = _segments(base + sent.path)
            known = (self._bare if relative else self._whole).get(len(segments), ())
            fitting = [(rank, one) for one in known if (rank := _fit(segments, one[0])) is not None]
            if fitting:
                fitting.sort(key=lambda pair: -pair[0])
                return base + sent.path, [one for _, one in fitting]
        return (sent.path if relative else sent.bases[0] + sent.path) or "/", []

    def _compare(self, sent: _Sent, relative: bool) -> bool:
        path, fitting = self._find(sent, relative=relative)
        verb = sent.method.upper()
        if not fitting:
            self._error(sent.at, f"the document has no path {path}")
            return False
        chosen = next((one for one in fitting if one[1].verb == sent.method), None)
        if chosen is None:
            verbs = ", ".join(sorted({operation.verb.upper() for _, operation in fitting}))
            self._error(sent.at, f"the document has no {verb} {path}, only {verbs}")
            return False
        segments, operation = chosen
        if operation.data.get("deprecated") is True:
            self._note(sent.at, f"the document calls {verb} {operation.path} deprecated")
        self._path_types(sent, path, segments, operation)
        self._query(sent, operation)
        self._headers(sent, operation)
        self._body(sent, operation)
        return True

    # Parameters

    def _path_types(self, sent: _Sent, path: str, segments: list[str], operation: Operation) -> None:
        typed = {str(p["name"]): p for p in operation.parameters if p.get("in") == "path"}
        theirs = [_BRACES.findall(s) for s in operation.path.strip("/").split("/")]
        theirs = [[]] * (len(segments) - len(theirs)) + theirs
        names = iter(sent.names)
        skip = path.count(HOLE) - len(sent.names)  # holes of the base URL
        for ours, there in zip(_segments(path), theirs, strict=False):
            for index in range(ours.count(HOLE)):
                if skip > 0:
                    skip -= 1
                    continue
                one = sent.placed.get(next(names, ""))
                parameter = typed.get(there[index][1:-1]) if index < len(there) else None
                if one is None or parameter is None:
                    continue
                kinds = self._kinds(parameter.get("schema"))
                if _kinds_of(one) <= {"integer", "number"} and kinds == {"string"} and _kinds_of(one):
                    at = (*sent.at[:-1], "input", one.name)
                    self._note(at, f"`{one.name}` is a number here and a string in the document")

    def _query(self, sent: _Sent, operation: Operation) -> None:
        known = {str(p["name"]): p for p in operation.parameters if p.get("in") == "query"}
        inline = operation.path.partition("?")[2]
        known |= {pair.partition("=")[0]: {} for pair in inline.split("&") if pair}
        credentials = self._credentials()
        for name, value in sent.query.items():
            parameter = known.get(name)
            if parameter is None:
                owner = known.get(name.partition("[")[0]) if "[" in name else None
                if owner is None or not self._takes_keys(owner):
                    self._error(value.at, self._unknown(name, "query parameter", operation, known))
                continue
            if parameter.get("deprecated") is True:
                self._note(value.at, f"the document calls the query parameter `{name}` deprecated")
            self._types(name, value, parameter.get("schema"), in_query=True)
            if value.kinds == {"array"} and parameter.get("explode") is False:
                self._note(value.at, f"`{name}` is repeated here, and one text with commas in the document")
        for name, parameter in known.items():
            if parameter.get("required") is not True or name.lower() in credentials:
                continue
            if not any(n == name or n.startswith(name + "[") for n in sent.query):
                self._error(sent.at, f"the document requires the query parameter `{name}`")
            elif name in sent.query and sent.query[name].optional:
                at = sent.query[name].at
                self._note(at, f"the document requires the query parameter `{name}`, which may be left out here")

    def _headers(self, sent: _Sent, operation: Operation) -> None:
        credentials = self._credentials()
        for parameter in operation.parameters:
            name = str(parameter["name"])
            due = parameter.get("in") == "header" and parameter.get("required") is True
            if due and name.lower() not in credentials and name.lower() not in sent.headers:
                self._error(sent.at, f"the document requires the header `{name}`")

    def _credentials(self) -> frozenset[str]:
        """Names, in small letters, that the auth method takes care of."""
        names = set(_CREDENTIALS)
        components = self._document.data.get("components")
        schemes = components.get("securitySchemes") if isinstance(components, Mapping) else None
        for one in schemes.values() if isinstance(schemes, Mapping) else ():
            names.add(str(self._document.resolve(one).get("name") or "").lower())
        for method in self._connector.auth.values():
            names |= {name.lower() for name in (*method.headers, *method.query)}
        return frozenset(names)

    def _takes_keys(self, parameter: Mapping[str, Any]) -> bool:
        kinds = self._kinds(parameter.get("schema"))
        return parameter.get("style") == "deepObject" or not kinds or bool(kinds & {"object", "array"})

    def _unknown(self, name: str, what: str, operation: Operation, known: Iterable[str]) -> str:
        places = [str(p["in"]) for p in operation.parameters if p["name"] == name]
        if what != "query parameter" and "query" in places:
            return f"`{name}` is sent in the body, and in the query in the document"
        if what == "query parameter" and name in self._shape(self._content(operation)[1]).properties:
            return f"`{name}` is sent in the query, and in the body in the document"
        return f"the document has no {what} `{name}`{_near(name, known)}"

    # Bodies

    def _content(self, operation: Operation) -> tuple[str, Any]:
        """The type and the schema of the body, JSON before others."""
        content = self._document.resolve(operation.data.get("requestBody")).get("content")
        content = {k: v for k, v in content.items() if isinstance(v, Mapping)} if isinstance(content, Mapping) else {}
        ranked = sorted(content, key=lambda kind: ("json" not in str(kind), "*" not in str(kind)))
        return (str(ranked[0]), content[ranked[0]].get("schema")) if ranked else ("", None)

    def _body(self, sent: _Sent, operation: Operation) -> None:
        kind, schema = self._content(operation)
        body = self._document.resolve(operation.data.get("requestBody"))
        if sent.body is None:
            shape = self._shape(schema)
            if body.get("required") is True and shape.required:
                self._error(sent.at, f"the document requires a body with `{min(shape.required)}`")
            return
        if not body:
            if isinstance(sent.body, dict):
                names = {str(p["name"]) for p in operation.parameters if p.get("in") == "query"}
                for name, value in sent.body.items():
                    text = f"`{name}` is sent in a body, and the document has none here"
                    self._error(_at(value, sent.at), text if name not in names else f"{text}: it is in the query")
            return
        if kind and "json" not in kind and "*" not in kind and "content-type" not in sent.headers:
            self._note(sent.at, f"the document takes {kind}, and JSON is sent")
        self._object(sent.body, schema, sent.at, operation, "", 0)

    def _object(self, sent: Any, schema: Any, at: Location, operation: Operation, path: str, depth: int) -> None:
        """Compare an object, or a list of objects, with its schema."""
        if depth > _DEPTH:
            return
        if isinstance(sent, list):
            kinds = self._kinds(schema)
            if kinds and "array" not in kinds:
                self._note(at, f"`{path or 'the body'}` is a list here and not in the document")
                return
            items = self._items(schema)
            for one in sent:
                self._object(one, items, at, operation, path, depth + 1)
            return
        if not isinstance(sent, dict):
            return
        shape = self._shape(schema)
        for name, value in sent.items():
            inner = f"{path}.{name}" if path else name
            where = _at(value, at)
            if name not in shape.properties:
                if shape.open or not shape.properties or _ODATA in name:
                    continue
                what = f"property in `{path}` called" if path else "body property"
                self._error(where, self._unknown(name, what, operation, shape.properties))
                continue
            theirs = shape.properties[name]
            if self._document.resolve(theirs).get("readOnly") is True:
                self._note(where, f"`{inner}` is read-only in the document")
            if isinstance(value, dict | list):
                kinds = self._kinds(theirs)
                ours = "array" if isinstance(value, list) else "object"
                if kinds and ours not in kinds:
                    self._note(where, f"`{inner}` is {_article(ours)} here and {_either(kinds)} in the document")
                else:
                    self._object(value, theirs, where, operation, inner, depth + 1)
            elif isinstance(value, _Value):
                self._types(inner, value, theirs, in_query=False)
        for name in sorted(shape.required):
            inner = f"{path}.{name}" if path else name
            if name not in sent and _ODATA not in name:
                self._error(at, f"the document requires `{inner}` in the body")
            elif isinstance(value := sent.get(name), _Value) and value.optional:
                self._note(value.at, f"the document requires `{inner}`, which may be left out here")

    # Schemas

    def _types(self, name: str, value: _Value, schema: Any, *, in_query: bool) -> None:
        kinds, ours = self._kinds(schema), value.kinds
        if kinds and ours and not any(_same(a, b) for a in ours for b in kinds):
            listed = "array" in kinds and in_query  # one entry of a list is the same text
            texts = in_query and not ours & {"array", "object"} and ours == {"string"}  # all is text in a query
            if not listed and not texts:
                self._note(value.at, f"`{name}` is {_either(ours)} here and {_either(kinds)} in the document")
                return
        allowed = self._enum(schema)
        wrong = [v for v in value.values if allowed and v not in allowed and str(v) not in {str(a) for a in allowed}]
        if wrong:
            self._note(value.at, f"`{name}` may be {wrong[0]!r} here, which the document does not know")

    def _kinds(self, schema: Any, above: frozenset[int] = frozenset()) -> frozenset[str]:
        """The plain types that a schema takes; empty when it does not say. `above` are the schemas it is a part of."""
        raw = self._document.resolve(schema)
        kind = raw.get("type")
        named = {k for k in (kind if isinstance(kind, list) else [kind]) if k in _PLAIN}
        if named or id(raw) in above:
            return frozenset(named)
        inside = above | {id(raw)}
        for part in _list(raw, "allOf"):
            if found := self._kinds(part, inside):
                return found
        out: set[str] = set()
        for part in self._choices(raw):
            if not (found := self._kinds(part, inside)):
                return frozenset()
            out |= found
        if not out and raw.get("properties"):
            out = {"object"}
        return frozenset(out)

    def _choices(self, raw: Mapping[str, Any]) -> list[Any]:
        parts = [*_list(raw, "oneOf"), *_list(raw, "anyOf")]
        return [part for part in parts if self._document.resolve(part).get("type") != "null"]

    def _enum(self, schema: Any) -> list[Any]:
        return _list(self._document.resolve(schema), "enum")

    def _items(self, schema: Any, above: frozenset[int] = frozenset()) -> Any:
        raw = self._document.resolve(schema)
        if "items" in raw or id(raw) in above:
            return raw.get("items")
        inside = above | {id(raw)}
        parts = [*_list(raw, "allOf"), *self._choices(raw)]
        return next((found for part in parts if (found := self._items(part, inside)) is not None), None)

    def _shape(self, schema: Any, above: frozenset[int] = frozenset()) -> _Shape:
        """The properties of an object: all of `allOf`, any of `oneOf` and `anyOf`, where what is required is so in each."""
        raw = self._document.resolve(schema)
        shape = _Shape()
        if id(raw) in above:
            return shape
        inside = above | {id(raw)}
        shape.properties |= {str(k): v for k, v in self._document.resolve(raw.get("properties")).items()}
        shape.required |= {str(n) for n in _list(raw, "required")}
        extra = raw.get("additionalProperties")
        shape.open = extra is True or isinstance(extra, Mapping) or isinstance(raw.get("patternProperties"), Mapping)
        for part in _list(raw, "allOf"):
            inner = self._shape(part, inside)
            shape.properties |= inner.properties
            shape.required |= inner.required
            shape.open = shape.open or inner.open
        own, choices = bool(shape.properties), []
        for part in self._choices(raw):
            choices.append(inner := self._shape(part, inside))
            said = own or inner.properties or inner.required or not self._kinds(part, inside) <= {"object"}
            shape.properties = {**inner.properties, **shape.properties}
            shape.open = shape.open or inner.open or not said
        if choices:
            shape.required |= set.intersection(*(inner.required for inner in choices))
        shape.required -= {n for n, p in shape.properties.items() if self._document.resolve(p).get("readOnly") is True}
        return shape

    def _error(self, at: Location, message: str) -> None:
        self._findings.append(Finding(at, message))

    def _note(self, at: Location, message: str) -> None:
        self._findings.append(Finding(at, message, "note"))


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


def _list(raw: Mapping[str, Any], name: str) -> list[Any]:
    value = raw.get(name)
    return value if isinstance(value, list) else []


def _segments(path: str) -> list[str]:
    return [part for part in path.strip("/").split("/") if part] if path.strip("/") else []


def _fit(ours: list[str], theirs: list[str]) -> int | None:
    """How well two paths of the same length fit, by the characters that both write out; None when they do not."""
    rank = 0
    for mine, other in zip(ours, theirs, strict=True):
        if mine == other:
            rank += 2 + len(mine.replace(HOLE, ""))
        elif mine != HOLE and HOLE in other:  # `me` for `{id}`, `1.json` for `{id}.{format}`
            pattern = "[^/]+".join(re.escape(part) for part in other.split(HOLE))
            if re.fullmatch(pattern, mine) is None:
                return None
            rank += len(other.replace(HOLE, ""))
        else:
            return None
    return rank


def _kinds_of(one: Input) -> frozenset[str]:
    kind = one.schema.get("type")
    return frozenset(k for k in (kind if isinstance(kind, list) else [kind]) if k in _PLAIN)


def _of_input(one: Input, at: Location) -> _Value:
    values = one.schema.get("enum")
    optional = not one.required and "default" not in one.schema
    return _Value(at, _kinds_of(one), optional, tuple(values) if isinstance(values, list) else ())


def _value(value: Any, at: Location) -> _Value:
    """What is known of a value as the file writes it."""
    if isinstance(value, bool):
        return _Value(at, frozenset({"boolean"}), values=(value,))
    if isinstance(value, str | int | float):
        kind = "string" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"
        return _Value(at, frozenset({kind}), values=(value,))
    return _Value(at)


def _tree(tree: Any, at: Location) -> Any:
    if isinstance(tree, Mapping):
        return {str(k): _tree(v, (*at, k)) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_tree(v, (*at, i)) for i, v in enumerate(tree)]
    return _value(tree, at)


def _with_paging(paging: Paging, at: Location, places: dict[str, dict[str, _Value]], body: Any) -> Any:
    """Add the parameters of pages to their places; returns the body with its own."""
    number = _Value(at, frozenset({"integer"}))
    named: list[tuple[str, str, _Value]] = []
    if paging.size_param is not None:
        named.append(("body" if paging.place == "body" else "query", paging.size_param, number))
    if paging.style == "cursor" and paging.param is not None:
        named.append((paging.place, paging.param, _Value(at)))
    if paging.style in ("offset", "page"):
        named.append((paging.place, paging.where, number))
    for place, name, value in named:
        if place != "body":
            places[place].setdefault(name, value)
        elif body is None or isinstance(body, dict):
            body = {name: value, **(body or {})}
    return body


def _at(value: Any, default: Location) -> Location:
    if isinstance(value, _Value):
        return value.at
    if isinstance(value, dict) and value:
        return _at(next(iter(value.values())), default)[:-1] or default
    return default


def _same(one: str, other: str) -> bool:
    return one == other or {one, other} == {"integer", "number"}


def _near(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _either(kinds: Iterable[str]) -> str:
    return " or ".join(_article(kind) for kind in sorted(kinds))
