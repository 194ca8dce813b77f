"""Read a connector file. Every fault is reported with file, line and column, and all of them at once."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ValidationError
from pydantic_core import ErrorDetails

from mooring.connectors.compile import CompileError, compile_connector
from mooring.connectors.definition import Connector
from mooring.connectors.problem import ConnectorFileError, Problem
from mooring.connectors.spec import ConnectorSpec
from mooring.connectors.spec_types import Spec
from mooring.connectors.yaml_source import Fault, Location, Source, read_yaml


def load_file(path: Path, builtin: bool) -> Connector:
    """Read, check and compile one file, or `connector.yaml` with the `actions/*.yaml` beside it.

    Raises ConnectorFileError with every fault, each in the file that it stands in.
    """
    name = path.name if builtin else str(path)
    source = _read(path, name)
    if not isinstance(source.data, dict):
        raise ConnectorFileError([Problem(name, 1, 1, "a connector file is a mapping that begins with `connector:`")])
    parts = _parts(path, source, builtin) if path.name == "connector.yaml" else {}
    try:
        spec = ConnectorSpec.model_validate(source.data)
        logo, guide = (path.with_name(f"{spec.connector}{suffix}") for suffix in (".svg", ".md"))
        return compile_connector(
            spec,
            builtin=builtin,
            source=name,
            logo=str(logo) if logo.is_file() else None,
            guide=guide.read_text(encoding="utf-8") if guide.is_file() else None,
        )
    except ValidationError as error:
        faults = [translate(detail) for detail in error.errors(include_url=False, include_input=False)]
    except CompileError as error:
        faults = error.faults
    raise ConnectorFileError(_located(fault, source, name, parts) for fault in faults)


_Parts = dict[str, tuple[str, Source]]  # of an action's key: the file that it stands in


def _read(path: Path, name: str) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConnectorFileError([Problem(name, 1, 1, f"cannot be read: {reason}")]) from None
    source = read_yaml(text)
    if source.faults:
        raise ConnectorFileError(Problem(name, *place, message) for place, message in source.faults)
    return source


def _parts(path: Path, source: Source, builtin: bool) -> _Parts:
    """Put the actions of `actions/*.yaml` into the connector; each of these files is a mapping of actions by their keys."""
    out: _Parts = {}
    problems: list[Problem] = []
    actions = dict(source.data.get("actions") or {}) if isinstance(source.data.get("actions"), dict | None) else {}
    for file in sorted(path.parent.glob("actions/*.yaml")):
        name = f"{path.parent.name}/actions/{file.name}" if builtin else str(file)
        part = _read(file, name)
        if not isinstance(part.data, dict):
            problems.append(Problem(name, 1, 1, "a file of actions is a mapping of actions by their keys"))
            continue
        for key, action in part.data.items():
            if key in actions:
                first = out[key][0] if key in out else path.name
                place = part.position((key,), on_key=True)
                problems.append(Problem(name, *place, f"the action `{key}` stands in {first} already"))
                continue
            actions[key], out[key] = action, (name, part)
    if problems:
        raise ConnectorFileError(problems)
    if out:
        source.data["actions"] = actions
    return out


def _located(fault: Fault, source: Source, name: str, parts: _Parts) -> Problem:
    at = fault.location
    if len(at) > 1 and at[0] == "actions" and (found := parts.get(str(at[1]))) is not None:
        name, source = found
        at = at[1:]
    return Problem(name, *source.position(at, on_key=fault.on_key), fault.message)


def translate(detail: ErrorDetails, root: type[Spec] = ConnectorSpec) -> Fault:
    """Say a Pydantic error of a `root` in the words of those who write files."""
    at: Location = tuple(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Fault(at, _unknown_key(at, root), on_key=True)
    if kind == "missing":
        return Fault(at[:-1], f"`{at[-1]}` is missing", on_key=True)
    if kind == "literal_error":
        return Fault(at, f"must be {context['expected']}")
    if kind == "string_type":
        return Fault(at, "must be text; put quotes around it")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Fault(at, "must be a mapping of keys")
    if kind == "bool_type":
        return Fault(at, "must be true or false")
    if kind == "int_type":
        return Fault(at, "must be a whole number")
    if kind == "list_type":
        return Fault(at, "must be a list")
    message = detail["msg"].removeprefix("Value error, ")
    return Fault(at, message[:1].lower() + message[1:] if kind != "value_error" else message, "[key]" in at)


def _unknown_key(at: Location, root: type[Spec]) -> str:
    key = str(at[-1])
    models = _models_at(at[:-1], root)
    if any(key in model.later for model in models):
        return f"`{key}` is not supported yet; it comes with a later release"
    known = sorted({name for model in models for name in _names(model)})
    if key in known:
        return f"`{key}` says the same as another key here; keep one of them"
    near = difflib.get_close_matches(key, known, 1, cutoff=0.6) or _same_letters(key, known)
    hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
    return f"unknown key `{key}`; {hint}"


def _same_letters(key: str, known: list[str]) -> list[str]:
    """Find the key that differs in case and separators only: `baseUrl` is `base_url`."""
    bare = key.replace("-", "").replace("_", "").lower()
    return [name for name in known if name.replace("_", "") == bare]


def _names(model: type[Spec]) -> Iterator[str]:
    """Yield the keys of a model as authors write them, aliases included."""
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            yield from (choice for choice in alias.choices if isinstance(choice, str))
        else:
            yield alias if isinstance(alias, str) else name


def _models_at(at: Location, root: type[Spec]) -> list[type[Spec]]:
    """Find the models that stand at a location, by walking their annotations."""
    found: list[Any] = [root]
    for part in at:
        found = [inner for annotation in found for inner in _step(annotation, part)]
    return [annotation for annotation in found if isinstance(annotation, type)]


def _step(annotation: Any, part: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        for name, info in annotation.model_fields.items():
            alias = info.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
            if part in choices:
                yield from _members(info.annotation)
        return
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (dict, list) and arguments:
        yield from _members(arguments[-1])


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the models and containers inside unions and Annotated."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    elif origin in (dict, list) or (isinstance(annotation, type) and issubclass(annotation, Spec)):
        yield annotation
