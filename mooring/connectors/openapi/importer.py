"""Turn a description of an API into a connector: authentication, actions, inputs, paging and limits, as far as it tells."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mooring.connectors.openapi.authentication import methods_of
from mooring.connectors.openapi.document import Document, Operation, first_sentences
from mooring.connectors.openapi.paging import items_of, page_of

_OURS: Final = frozenset({"accept", "authorization", "content-type", "user-agent", "content-length", "host"})
_SELF: Final = re.compile(
    r"/(me|self|whoami|user|account|current|profile|ping|status|viewer)(\.json)?/?$", re.IGNORECASE
)
_RATE: Final = re.compile(r"^(x-)?rate-?limit-(limit|remaining|reset)$", re.IGNORECASE)
_ENCODINGS: Final = (
    (r"application/(?:[\w.+-]+\+)?json.*|\*/\*", "json"),
    (r"multipart/form-data.*", "multipart"),
    (r"application/x-www-form-urlencoded.*", "form"),
    (r"application/(?:octet-stream|pdf|zip|gzip).*|(?:image|audio|video)/.*", "file"),
)


@dataclass(slots=True)
class Imported:
    """A connector as the native format writes it, and what its author should look at."""

    connector: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def import_document(
    document: Document,
    *,
    key: str | None = None,
    category: str = "other",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    base_url: str | None = None,
) -> Imported:
    """Write the connector. `include` and `exclude` are patterns with `*` for operationIds, tags, paths or `GET /path`.

    Raises ValueError when nothing is left of it.
    """
    return _Importer(document, key, category, include, exclude, base_url).run()


@dataclass(slots=True)
class _Importer:
    document: Document
    key: str | None
    category: str
    include: Sequence[str]
    exclude: Sequence[str]
    base_url: str | None
    notes: list[str] = field(default_factory=list)
    rates: set[str] = field(default_factory=set)
    server_fields: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Imported:
        data = self.document.data
        info = data.get("info") or {}
        title = str(info.get("title") or "Imported").strip()
        base = self._base(data)
        actions = self._actions()
        if not actions:
            raise ValueError("no operation is left: look at --include and --exclude, and at `deprecated`")
        auth = self._auth(data, actions)
        out: dict[str, Any] = {
            "connector": self.key or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "imported",
            "title": title,
            "category": self.category,
        }
        docs = (data.get("externalDocs") or {}).get("url")
        if isinstance(docs, str) and docs.startswith("http"):
            out["docs"] = docs
        if isinstance(info.get("description"), str) and info["description"].strip():
            out["description"] = first_sentences(info["description"], 200)
        out["base_url"] = base
        if self.rates:
            out["limits"] = {"headers": sorted(self.rates)}
        return Imported({**out, "auth": auth, "actions": actions}, self.notes)

    # The address

    def _base(self, data: Mapping[str, Any]) -> str:
        servers = data.get("servers") or [{}]
        server = servers[0] if isinstance(servers[0], Mapping) else {}
        url = (self.base_url or str(server.get("url") or "")).rstrip("/")
        if not url.startswith(("https://", "http://")):
            raise ValueError(f"the description names no whole address of a server ({url or 'none'}); give --base-url")
        for name, variable in (server.get("variables") or {}).items() if not self.base_url else ():
            ours = re.sub(r"\W", "_", str(name))
            choices = [str(v) for v in variable.get("enum") or ()]
            spec: dict[str, Any] = {"label": ours.replace("_", " ").capitalize()}
            if variable.get("description"):
                spec["help"] = first_sentences(str(variable["description"]), 200)
            if choices:
                spec["options"] = choices
            else:
                spec |= {"pattern": "[A-Za-z0-9-]+", "pattern_error": "Letters, digits and dashes"}
            self.server_fields[ours] = spec
            url = url.replace("{" + str(name) + "}", "${" + ours + "}")
        if len(servers) > 1:
            others = ", ".join(str(s.get("url")) for s in servers[1:4] if isinstance(s, Mapping))
            self.notes.append(f"base_url: the first server was taken; there are others: {others}")
        return url

    # Authentication

    def _auth(self, data: Mapping[str, Any], actions: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        schemes = (data.get("components") or {}).get("securitySchemes") or {}
        for name, raw in schemes.items():
            for key, method in methods_of(str(name), self.document.resolve(raw), self.notes):
                out.setdefault(key, method)
        if not out:
            self.notes.append(
                "auth: the description names no authentication that can be used; a bearer token is assumed"
            )
            out["token"] = {"bearer": "${token_value}", "fields": {"token_value": {"label": "Token", "secret": True}}}
        test = self._test(actions)
        for method in out.values():
            if self.server_fields:
                method["fields"] = {**self.server_fields, **method.get("fields", {})}
            if test is not None:
                method["test"] = test
        if test is None:
            self.notes.append("auth: no read without inputs was found; add a `test` to each method")
        return out

    def _test(self, actions: Mapping[str, Any]) -> str | None:
        bare = [
            name
            for name, action in actions.items()
            if "get" in action
            and "{" not in action["get"]
            and not any(map(_is_required, action.get("input", {}).values()))
        ]
        return next((name for name in bare if _SELF.search(actions[name]["get"])), next(iter(bare), None))

    # Actions

    def _actions(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        skipped = 0
        for operation in self.document.operations():
            if not self._wanted(operation):
                continue
            if operation.data.get("deprecated"):
                skipped += 1
                continue
            name = _name(operation)
            while name in out:
                name += "_2"
            action = self._action(name, operation)
            if action is not None:
                out[name] = action
        if skipped:
            self.notes.append(f"actions: {skipped} deprecated operations are left out")
        return out

    def _wanted(self, operation: Operation) -> bool:
        names = (operation.id, operation.path, f"{operation.verb.upper()} {operation.path}", *operation.tags)

        def fits(patterns: Sequence[str]) -> bool:
            return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns for name in names)

        return (not self.include or fits(self.include)) and not fits(self.exclude)

    def _action(self, name: str, operation: Operation) -> dict[str, Any] | None:
        data = operation.data
        renamed = {n: re.sub(r"\W", "_", n) for n in re.findall(r"\{([^}]+)\}", operation.path)}
        path = re.sub(r"\{([^}]+)\}", lambda found: "{" + renamed[found[1]] + "}", operation.path)
        action: dict[str, Any] = {}
        label = str(data.get("summary") or "").strip().rstrip(".")
        if label:
            action["label"] = first_sentences(label, 100)
        if isinstance(data.get("description"), str) and data["description"].strip():
            action["help"] = first_sentences(data["description"], 500)
        docs = (data.get("externalDocs") or {}).get("url")
        if isinstance(docs, str) and docs.startswith("http"):
            action["docs"] = docs
        action[operation.verb] = path if path.startswith("/") else "/" + path
        if operation.tags:
            action["tags"] = list(operation.tags)
        answer = self._answer(operation)
        page, taken = page_of(operation, answer)
        if page is not None:
            action["page"] = page
        inputs: dict[str, Any] = {}
        for parameter in operation.parameters:
            self._parameter(name, parameter, operation, renamed, taken, inputs)
        if "requestBody" in data and not self._body(name, operation, action, inputs):
            return None
        if inputs:
            action["input"] = inputs
        if page is None and operation.verb == "get" and (items := items_of(answer)):
            action["items"] = items
        return action

    def _parameter(
        self,
        name: str,
        parameter: Mapping[str, Any],
        operation: Operation,
        renamed: Mapping[str, str],
        taken: set[str],
        inputs: dict[str, Any],
    ) -> None:
        place, own = str(parameter["in"]), str(parameter["name"])
        if place == "cookie" or own in taken or (place == "header" and own.lower() in _OURS):
            return
        place = {"header": "headers"}.get(place, place)
        content: Mapping[str, Any] = next(iter((parameter.get("content") or {}).values()), {})
        schema = self.document.schema(parameter.get("schema") or content.get("schema") or {})
        if parameter.get("description"):
            schema["description"] = first_sentences(str(parameter["description"]), 300)
        reading = operation.verb in {"get", "delete"}
        default = "path" if place == "path" else "query" if reading else "body"
        ours = renamed.get(own, own) if place == "path" else own
        inputs[ours] = _written(
            schema, required=bool(parameter.get("required")), place=None if place == default else place
        )

    def _body(self, name: str, operation: Operation, action: dict[str, Any], inputs: dict[str, Any]) -> bool:
        """Add what the body holds. False where the action can't be written."""
        body = self.document.resolve(operation.data["requestBody"])
        content = body.get("content") or {}
        kind, send_as = _encoding(content)
        if kind is None:
            if content:
                self.notes.append(f"{name}: its body is {', '.join(content)}, which no action can send; it is left out")
            return not content
        schema = self.document.schema(content[kind].get("schema"))
        if send_as == "file":
            own = "content" if "content" not in inputs else "file_content"
            inputs[own] = "file!"
            action |= {"body": f"${{input.{own}}}", "send_as": "file"}
            if "*" not in kind:
                action["headers"] = {"content-type": kind.partition(";")[0]}
            return True
        if send_as != "json":
            action["send_as"] = send_as
        properties = schema.get("properties")
        place = "body" if operation.verb in {"get", "delete"} else None
        if not isinstance(properties, dict) or not properties:
            inputs["body"] = _written(schema or {"type": "object"}, required=bool(body.get("required")), place=place)
            action["body"] = "${input.body}"
            return True
        required = set(schema.get("required") or ())
        for own, inner in properties.items():
            if own in inputs:
                self.notes.append(
                    f"{name}: `{own}` is a parameter and a part of the body; only the parameter can be given"
                )
                continue
            inputs[own] = _written(inner, required=own in required, place=place)
        return True

    def _answer(self, operation: Operation) -> dict[str, Any]:
        """The schema of a good answer, and the headers that tell of limits."""
        answers = operation.data.get("responses") or {}
        status = next((s for s in ("200", "201", "2XX", "default") if s in answers), None)
        found = self.document.resolve(answers.get(status))
        for header in found.get("headers") or {}:
            if _RATE.match(str(header)):
                self.rates.add(str(header))
        content = found.get("content") or {}
        kind = next((k for k in content if "json" in k), None)
        schema = self.document.schema(content[kind].get("schema")) if kind else {}
        if any(str(h).lower() == "link" for h in found.get("headers") or {}):
            schema["x-link"] = True
        return schema


def _encoding(content: Mapping[str, Any]) -> tuple[str | None, str]:
    """The kind of body to send of those that the operation takes, and how an action says so."""
    for pattern, send_as in _ENCODINGS:
        kind = next((k for k in content if re.fullmatch(pattern, k, re.IGNORECASE)), None)
        if kind is not None:
            return kind, send_as
    return None, "json"


def _name(operation: Operation) -> str:
    """The action's name: of the operationId, or of method and path."""
    raw = operation.id
    if not raw:
        words = [w for w in re.split(r"[^A-Za-z0-9]+", operation.path) if w]
        raw = "_".join([operation.verb, *words])
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", raw)
    name = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"x_{name}"


def _written(schema: Mapping[str, Any], *, required: bool, place: str | None) -> Any:
    """An input as short as the format allows."""
    kind = schema.get("type")
    if kind == "string" and schema.get("contentEncoding") == "base64":
        schema = {k: v for k, v in schema.items() if k != "contentEncoding"} | {"type": "file"}
        kind = "file"
    plain = {"type", "items"} if kind == "array" else {"type"}
    inner = schema.get("items", {}).get("type") if kind == "array" else kind
    simple = (
        place is None and set(schema) <= plain and inner in {"string", "integer", "number", "boolean", "object", "file"}
    )
    if simple and (kind != "array" or set(schema.get("items", {})) == {"type"}):
        return f"{inner}{'[]' if kind == 'array' else ''}{'!' if required else ''}"
    out = dict(schema)
    if "description" in out:
        out["help"] = out.pop("description")
    out.pop("required", None)  # of an object's own parts; here it says whether the input itself is needed
    if required:
        out["required"] = True
    if place is not None:
        out["in"] = place
    return out


def _is_required(given: Any) -> bool:
    return given.endswith("!") if isinstance(given, str) else given.get("required") is True
