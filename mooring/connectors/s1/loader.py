"""Load a `.s1.yaml` connector into the internal form of all connectors.

In lenient mode, the default, whatever can be understood is understood, and each leniency is a warning with its place; what
can't is left out. In strict mode a leniency is a fault. In both, nothing that a file says makes the loader fail otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mooring.connectors.compile import CompileError, compile_connector
from mooring.connectors.definition import Connector
from mooring.connectors.problem import ConnectorFileError, Problem
from mooring.connectors.s1.actions import Credentials, read_actions
from mooring.connectors.s1.auth import auth_method, method_key
from mooring.connectors.s1.bundle import read_bundle
from mooring.connectors.s1.notes import Notes
from mooring.connectors.spec import ConnectorSpec
from mooring.connectors.yaml_source import Location
from mooring.protocol.expression_lexer import ExpressionError

_KNOWN: Final = frozenset(
    {
        "StackOne",
        "info",
        "baseUrl",
        "rateLimit",
        "concurrency",
        "resources",
        "context",
        "documentation",
        "releaseStage",
        "scopeDefinitions",
        "authentication",
        "actions",
        "categories",
        "changelog",
        "forkedFrom",
        "owner",
        "mcp",
        "events",
        "syncedActions",
    }
)
_STAGES: Final = {"preview": "beta", "beta": "beta", "ga": "ga", "deprecated": "ga", "internal": "draft"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A connector and what was noticed on the way."""

    connector: Connector
    warnings: tuple[Problem, ...]


def load_s1(path: Path, *, key: str | None = None, strict: bool = False) -> Loaded:
    """Read, check and compile a connector. `key` replaces the file's own. Raises ConnectorFileError."""
    bundle = read_bundle(path)
    notes = Notes(bundle, strict)
    (notes.faults if strict else notes.warnings).extend(bundle.faults)
    head = _head(notes, key)
    auth = _methods(notes, head)
    actions = read_actions(notes, _credentials(notes))
    if not auth and not notes.faults:
        notes.fault(("authentication",), "no auth method of this connector can be used here")
    if notes.faults:
        raise ConnectorFileError(notes.faults)
    logo, guide = (path.with_name(f"{head['connector']}{suffix}") for suffix in (".svg", ".md"))
    spec = ConnectorSpec.model_validate({**head, "auth": auth})
    connector = compile_connector(
        spec,
        builtin=False,
        source=str(path),
        logo=str(logo) if logo.is_file() else None,
        guide=guide.read_text(encoding="utf-8") if guide.is_file() else None,
        actions=actions,
    )
    return Loaded(connector, tuple(sorted(notes.warnings)))


def _head(notes: Notes, key: str | None) -> dict[str, Any]:
    data = notes.bundle.data
    for unknown in sorted(set(map(str, data)) - _KNOWN):
        notes.lenient((unknown,), f"there is no key `{unknown[:80]}` in this format; it has no effect", on_key=True)
    if "context" in data:
        notes.lenient(("context",), "`context` is the older name of `resources`", on_key=True)
    raw = data.get("info")
    info: dict[str, Any] = raw if isinstance(raw, dict) else {}
    own = info.get("key")
    if not isinstance(own, str) and key is None:
        notes.fault(("info",), "`info.key` is missing", on_key=True)
    name = re.sub(r"[^a-z0-9-]", "-", str(key or own or "x").lower())
    if not re.match(r"[a-z]", name):
        name = f"x-{name}"
    if name != own and key is None and isinstance(own, str):
        notes.warn(("info", "key"), f"the connector `{own[:80]}` is called `{name[:80]}` here")
    out: dict[str, Any] = {"connector": name, "title": str(info.get("title") or name), "category": "other"}
    version = str(info.get("version") or "")
    if re.fullmatch(r"\d+\.\d+\.\d+", version):
        out["version"] = version
    if isinstance(info.get("description"), str):
        out["description"] = info["description"]
    out["stage"] = _STAGES.get(str(data.get("releaseStage") or "ga"), "ga")
    rate = data.get("rateLimit")
    if isinstance(rate, dict) and isinstance(rate.get("mainRatelimit"), int) and rate["mainRatelimit"] > 0:
        out["limits"] = {"rps": rate["mainRatelimit"]}
    return out


def _methods(notes: Notes, head: dict[str, Any]) -> dict[str, Any]:
    """The methods that compile, each tried by itself; one that does not is left out with a warning for each fault."""
    data = notes.bundle.data
    given = data.get("authentication")
    if not isinstance(given, list):
        notes.fault(("authentication",), "`authentication` is a list of methods", on_key=True)
        return {}
    out: dict[str, Any] = {}
    for index, entry in enumerate(given):
        for name, raw in entry.items() if isinstance(entry, dict) else ():
            at: Location = ("authentication", index, name)
            key = method_key(name)
            if not isinstance(raw, dict) or key in out:
                notes.lenient(at, f"`{name[:80]}` is no auth method, or is given twice; it is left out", on_key=True)
                continue
            if key != name:
                notes.warn(at, f"the auth method `{name[:80]}` is called `{key}` here", on_key=True)
            method = auth_method(name, raw, at, notes, data.get("baseUrl"))
            if method is not None and _compiles(notes, head, key, method, at):
                out[key] = method
    return out


def _compiles(notes: Notes, head: dict[str, Any], key: str, method: dict[str, Any], at: Location) -> bool:
    try:
        spec = ConnectorSpec.model_validate({**head, "auth": {key: method}})
        compile_connector(spec, builtin=False, source="")
        return True
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, d['loc'][2:]))}: {d['msg']}" for d in error.errors(include_input=False)]
    except CompileError as error:
        problems = [fault.message for fault in error.faults]
    except ExpressionError as error:
        problems = [str(error)]
    for problem in problems:
        notes.lenient(at, f"this method is left out: {problem}", on_key=True)
    return False


def _credentials(notes: Notes) -> Credentials:
    """What the actions' expressions may ask of the auth methods."""
    kinds: dict[str, str] = {}
    oauth: set[str] = set()
    given = notes.bundle.data.get("authentication")
    for entry in given if isinstance(given, list) else []:
        for name, raw in entry.items() if isinstance(entry, dict) else ():
            if isinstance(raw, dict):
                key = method_key(name)
                kinds[key] = str(raw.get("type") or "custom")
                authorization = raw.get("authorization")
                if isinstance(authorization, dict) and authorization.get("type") == "oauth2":
                    oauth.add(key)
    return Credentials(kinds, frozenset(oauth))
