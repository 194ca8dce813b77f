"""Compare the requests of a connector's actions with the OpenAPI document of its vendor. Pure.

A document may be old or incomplete, so a finding is something to look up, not yet a fault of the connector. Compared are
method and path, names and presence of query parameters and headers, properties of bodies that are objects, and plain types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.connectors.openapi.document import Document, Operation
from mooring.connectors.workbench.sent import BRACES, HOLE, PLAIN, Sent, Value, kinds_of, path_of, requests_of
from mooring.connectors.yaml_source import Location

Level = Literal["error", "note"]
_DEPTH: Final = 12
_ODATA: Final = "@odata."  # annotations, which stand beside every property and which documents list by halves
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


@dataclass(slots=True)
class _Shape:
    """The properties of an object in a document. `open` when others may be sent, or nothing is said."""

    properties: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    open: bool = False


def against(connector: Connector, document: Document) -> Comparison:
    """Compare every action that sends a request with the document. Actions that are programs or Python are left out."""
    return _Comparer(connector, document).run()


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
            path = BRACES.sub(HOLE, operation.path).partition("?")[0].partition("#")[0]
            for prefix in dict.fromkeys((*self._prefixes, "")):  # a document may repeat its base path in each path
                segments = _segments(prefix + path)
                self._whole.setdefault(len(segments), []).append((segments, operation))
            self._bare.setdefault(len(_segments(path)), []).append((_segments(path), operation))

    def run(self) -> Comparison:
        actions = [a for a in self._connector.actions.values() if isinstance(a, Action)]
        sent = {action.key: list(requests_of(self._connector, action)) for action in actions}
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

    # Finding it in the document

    def _find(self, sent: Sent, *, relative: bool) -> tuple[str, list[tuple[list[str], Operation]]]:
        """The path that was looked for, and the operations whose paths fit it, best first."""
        for base in ("",) if relative else sent.bases:
            segments = _segments(base + sent.path)
            known = (self._bare if relative else self._whole).get(len(segments), ())
            fitting = [(rank, one) for one in known if (rank := _fit(segments, one[0])) is not None]
            if fitting:
                fitting.sort(key=lambda pair: -pair[0])
                return base + sent.path, [one for _, one in fitting]
        return (sent.path if relative else sent.bases[0] + sent.path) or "/", []

    def _compare(self, sent: Sent, relative: bool) -> bool:
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

    def _path_types(self, sent: Sent, path: str, segments: list[str], operation: Operation) -> None:
        typed = {str(p["name"]): p for p in operation.parameters if p.get("in") == "path"}
        theirs = [BRACES.findall(s) for s in operation.path.strip("/").split("/")]
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
                if kinds_of(one) <= {"integer", "number"} and kinds == {"string"} and kinds_of(one):
                    at = (*sent.at[:-1], "input", one.name)
                    self._note(at, f"`{one.name}` is a number here and a string in the document")

    def _query(self, sent: Sent, operation: Operation) -> None:
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

    def _headers(self, sent: Sent, operation: Operation) -> None:
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

    def _body(self, sent: Sent, operation: Operation) -> None:
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
            elif isinstance(value, Value):
                self._types(inner, value, theirs, in_query=False)
        for name in sorted(shape.required):
            inner = f"{path}.{name}" if path else name
            if name not in sent and _ODATA not in name:
                self._error(at, f"the document requires `{inner}` in the body")
            elif isinstance(value := sent.get(name), Value) and value.optional:
                self._note(value.at, f"the document requires `{inner}`, which may be left out here")

    # Schemas

    def _types(self, name: str, value: Value, schema: Any, *, in_query: bool) -> None:
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
        named = {k for k in (kind if isinstance(kind, list) else [kind]) if k in PLAIN}
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


def _at(value: Any, default: Location) -> Location:
    if isinstance(value, Value):
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
