"""Read an OpenAPI document, 3.0, 3.1 or Swagger 2.0, and follow its references. Pure but for `read_document`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from mooring.errors import ConfigurationError

MAX_BYTES: Final = 64 << 20
VERBS: Final = ("get", "post", "put", "patch", "delete")
_DEPTH: Final = 40


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation with the parameters of its path."""

    verb: str
    path: str
    data: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """Its operationId, or an empty text."""
        return str(self.data.get("operationId") or "")

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return tuple(str(tag) for tag in self.data.get("tags") or ())


class Document:
    """A description of an API."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = _from_swagger(data) if "swagger" in data else data

    def resolve(self, value: Any, depth: int = 0) -> Mapping[str, Any]:
        """The object itself, or what its `$ref` leads to; empty for a reference that leads nowhere."""
        if not isinstance(value, Mapping):
            return {}
        ref = value.get("$ref")
        if not isinstance(ref, str):
            return value
        if depth > _DEPTH or not ref.startswith("#/"):
            return {}
        found: Any = self.data
        for part in ref[2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part) if isinstance(found, Mapping) else None
        return self.resolve(found, depth + 1)

    def operations(self) -> Iterator[Operation]:
        """Every operation, in the order of the document."""
        paths = self.data.get("paths")
        for path, item in paths.items() if isinstance(paths, Mapping) else ():
            shared = self.resolve(item)
            for verb in VERBS:
                data = shared.get(verb)
                if not isinstance(data, Mapping):
                    continue
                named: dict[tuple[str, str], Mapping[str, Any]] = {}
                for raw in (*(shared.get("parameters") or ()), *(data.get("parameters") or ())):
                    parameter = self.resolve(raw)
                    if parameter.get("name") and parameter.get("in"):
                        named[str(parameter["in"]), str(parameter["name"])] = parameter
                yield Operation(verb, str(path), data, tuple(named.values()))

    def schema(self, value: Any, depth: int = 0) -> dict[str, Any]:
        """A JSON Schema without references: what a caller may send, as far as three levels."""
        raw = self.resolve(value)
        if "allOf" in raw:
            merged: dict[str, Any] = {k: v for k, v in raw.items() if k != "allOf"}
            for part in raw["allOf"] or ():
                inner = self.resolve(part) if depth < _DEPTH else {}
                if "allOf" in inner:
                    inner = self.schema(inner, depth + 1)
                merged = _merged(merged, inner)
            raw = merged
        out: dict[str, Any] = {}
        kind = raw.get("type")
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), None)
        if kind is None and "properties" in raw:
            kind = "object"
        if kind in {"string", "integer", "number", "boolean", "array", "object"}:
            out["type"] = kind
        for name in ("enum", "minimum", "maximum", "minLength", "maxLength", "pattern"):
            if raw.get(name) is not None and not isinstance(raw[name], bool):
                out[name] = raw[name]
        if "enum" in out:
            out["enum"] = [v for v in out["enum"] if v is not None]
        if raw.get("format") in {"date", "date-time", "email", "uuid", "uri"}:
            out["format"] = raw["format"]
        if kind == "string" and (raw.get("format") == "binary" or raw.get("contentMediaType")):
            out["contentEncoding"] = "base64"
        if kind == "array":
            out["items"] = self.schema(raw.get("items"), depth + 1) if depth < 3 else {}
        if kind == "object" and isinstance(raw.get("properties"), Mapping) and depth < 3:
            named = {n: p for n, p in raw["properties"].items() if not self.resolve(p).get("readOnly")}
            out["properties"] = {str(n): self.schema(p, depth + 1) for n, p in named.items()}
            if required := [n for n in raw.get("required") or () if n in named]:
                out["required"] = required
        if isinstance(raw.get("description"), str) and raw["description"].strip():
            out["description"] = first_sentences(raw["description"], 300)
        return out


def read_document(path: Path) -> Document:
    """Read a file of JSON or YAML. Raises ConfigurationError for what is no description of an API."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_BYTES >> 20} MiB")
        raw = path.read_bytes()
    except OSError as e:
        raise ConfigurationError(f"{path} can't be read: {e.strerror}") from None
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            data = yaml.load(raw, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
        except yaml.YAMLError as e:
            raise ConfigurationError(f"{path} is neither JSON nor YAML: {str(e).splitlines()[0]}") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("paths"), Mapping):
        raise ConfigurationError(f"{path} is no OpenAPI description: it has no `paths`")
    version = str(data.get("openapi") or data.get("swagger") or "")
    if not version.startswith(("3.", "2.0")):
        raise ConfigurationError(f"{path}: `openapi` is {version or 'missing'}; 3.0, 3.1 and Swagger 2.0 are read")
    return Document(data)


def first_sentences(text: str, limit: int) -> str:
    """A text in one paragraph, cut at a sentence."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    cut = flat[:limit]
    end = max(cut.rfind(". "), cut.rfind("! "), cut.rfind("? "))
    return cut[: end + 1] if end > limit // 3 else cut.rsplit(" ", 1)[0] + " …"


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    out = {**second, **first}
    if "properties" in first or "properties" in second:
        out["properties"] = {**(first.get("properties") or {}), **(second.get("properties") or {})}
    if "required" in first or "required" in second:
        out["required"] = [*(first.get("required") or ()), *(second.get("required") or ())]
    return out


def _from_swagger(data: Mapping[str, Any]) -> dict[str, Any]:
    """A Swagger 2.0 document in the words of OpenAPI 3, as far as the importer reads them."""
    scheme = "https" if "https" in (data.get("schemes") or ["https"]) else "http"
    servers = [{"url": f"{scheme}://{data['host']}{data.get('basePath') or ''}"}] if data.get("host") else []
    schemes = {name: _scheme(one) for name, one in (data.get("securityDefinitions") or {}).items()}
    paths: dict[str, Any] = {}
    for path, item in data["paths"].items():
        paths[path] = {
            key: _operation(value, item, data) if key in VERBS and isinstance(value, Mapping) else value
            for key, value in (item or {}).items()
            if key != "parameters"
        }
    return {
        **data,
        "servers": servers,
        "paths": paths,
        "components": {"securitySchemes": schemes},
    }


def _scheme(one: Mapping[str, Any]) -> dict[str, Any]:
    if one.get("type") == "basic":
        return {"type": "http", "scheme": "basic"}
    if one.get("type") != "oauth2":
        return dict(one)
    flow = {"accessCode": "authorizationCode", "application": "clientCredentials"}.get(str(one.get("flow")), "implicit")
    return {"type": "oauth2", "flows": {flow: {k: v for k, v in one.items() if k not in {"type", "flow"}}}}


def _field(one: Mapping[str, Any]) -> dict[str, Any]:
    """A field of a Swagger 2.0 form as a schema."""
    if one.get("type") == "file":
        return {"type": "string", "format": "binary", "description": one.get("description")}
    return {k: v for k, v in one.items() if k not in {"name", "in", "required"}}


def _operation(value: Mapping[str, Any], item: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    fields: list[Mapping[str, Any]] = []
    out = dict(value)
    shared = data.get("parameters") or {}
    for raw in (*(item.get("parameters") or ()), *(value.get("parameters") or ())):
        ref = raw.get("$ref", "") if isinstance(raw, Mapping) else ""
        one = shared.get(ref.removeprefix("#/parameters/"), raw) if ref else raw
        if one.get("in") == "body":
            out["requestBody"] = {
                "required": one.get("required"),
                "content": {"application/json": {"schema": one.get("schema")}},
            }
        elif one.get("in") == "formData":
            fields.append(one)
        else:
            schema = {k: one[k] for k in ("type", "enum", "items", "format", "minimum", "maximum") if k in one}
            parameters.append({**{k: one.get(k) for k in ("name", "in", "required", "description")}, "schema": schema})
    if fields:
        kinds = value.get("consumes") or data.get("consumes") or ()
        files = any(one.get("type") == "file" for one in fields)
        form = not files and "multipart/form-data" not in kinds
        kind = "application/x-www-form-urlencoded" if form else "multipart/form-data"
        schema = {
            "type": "object",
            "properties": {str(one["name"]): _field(one) for one in fields if one.get("name")},
            "required": [str(one["name"]) for one in fields if one.get("name") and one.get("required")],
        }
        out["requestBody"] = {"content": {kind: {"schema": schema}}}
    out["parameters"] = parameters
    out["responses"] = {
        status: {**answer, "content": {"application/json": {"schema": answer.get("schema")}}}
        for status, answer in (value.get("responses") or {}).items()
        if isinstance(answer, Mapping)
    }
    return out
