"""What differs between two versions of a connector, in words of those who use it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from mooring.connectors.actions import Action
from mooring.connectors.definition import AuthMethod, Connector, Field, OAuth2
from mooring.protocol.template import Template

Effect = Literal["breaks", "adds", "changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `breaks`: somebody who uses the connector has to do something."""

    effect: Effect
    message: str


def differences(old: Connector, new: Connector) -> list[Change]:
    """Every difference that a caller, an operator or an end user could notice."""
    out = [*_values(old, new), *_methods(old, new), *_actions(old, new)]
    return sorted(out, key=lambda change: ("breaks", "changes", "adds").index(change.effect))


def advised_version(old: Connector, changes: list[Change]) -> str:
    """The version that semantic versioning wants after these changes."""
    major, minor, patch = (int(part) for part in [*old.version.split("-")[0].split("."), "0", "0"][:3])
    if any(change.effect == "breaks" for change in changes):
        return f"{major + 1}.0.0"
    if any(change.effect == "adds" for change in changes):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}" if changes else old.version


def _values(old: Connector, new: Connector) -> Iterator[Change]:
    if old.key != new.key:
        yield Change("breaks", f"the key is `{new.key}` instead of `{old.key}`")
    names = ("title", "stage", "docs", "limits", "page", "headers", "echo_allowed")
    for name in names:
        before, after = _plain(getattr(old, name)), _plain(getattr(new, name))
        if before != after:
            yield Change("changes", f"{name}: {_shown(before)} → {_shown(after)}")
    yield from _sets("category", old.categories, new.categories)


def _methods(old: Connector, new: Connector) -> Iterator[Change]:
    for key in old.auth.keys() - new.auth.keys():
        yield Change("breaks", f"the auth method `{key}` is gone: accounts linked by it stop")
    for key in new.auth.keys() - old.auth.keys():
        yield Change("adds", f"the auth method `{key}`")
    for key, before in old.auth.items():
        if (after := new.auth.get(key)) is not None:
            yield from _method(key, before, after)


def _method(key: str, old: AuthMethod, new: AuthMethod) -> Iterator[Change]:
    if old.kind != new.kind:
        yield Change("breaks", f"{key}: {new.kind} instead of {old.kind}")
    if old.base_url.source != new.base_url.source:
        yield Change("changes", f"{key}: base URL {old.base_url.source} → {new.base_url.source}")
    for group, who in (("fields", "end users"), ("app_fields", "the operator")):
        yield from _fields(f"{key}: ", who, getattr(old, group), getattr(new, group))
    if old.oauth2 is not None and new.oauth2 is not None:
        yield from _oauth2(key, old.oauth2, new.oauth2)
    for name in ("headers", "query", "basic", "test", "signature"):
        before, after = _plain(getattr(old, name)), _plain(getattr(new, name))
        if before != after:
            yield Change("changes", f"{key}: {name} {_shown(before)} → {_shown(after)}")


def _fields(prefix: str, who: str, old: tuple[Field, ...], new: tuple[Field, ...]) -> Iterator[Change]:
    before, after = {f.key: f for f in old}, {f.key: f for f in new}
    for key in before.keys() - after.keys():
        yield Change("changes", f"{prefix}{who} no longer give `{key}`")
    for key, field in after.items():
        needed = field.required and field.default is None
        if key not in before:
            text = f"{prefix}{who} give `{key}`" + (
                ", which linked accounts lack" if needed and who == "end users" else ""
            )
            yield Change("breaks" if needed else "adds", text)
        elif before[key] != field:
            stricter = field.pattern != before[key].pattern or (needed and not before[key].required)
            effect: Effect = "breaks" if field.secret != before[key].secret or stricter else "changes"
            names = [n for n in Field.__slots__ if getattr(field, n) != getattr(before[key], n)]
            yield Change(effect, f"{prefix}the field `{key}` differs in {', '.join(names)}")


def _oauth2(key: str, old: OAuth2, new: OAuth2) -> Iterator[Change]:
    for scope in new.scopes:
        if scope not in old.scopes:
            yield Change(
                "breaks", f"{key}: asks for the scope `{scope}`: linked accounts have to consent again to have it"
            )
    for scope in old.scopes:
        if scope not in new.scopes:
            yield Change("changes", f"{key}: no longer asks for the scope `{scope}`")
    if old.grant != new.grant:
        yield Change("breaks", f"{key}: the grant is {new.grant} instead of {old.grant}")
    skipped = {"scopes", "scope_reasons", "grant"}
    for name in OAuth2.__slots__:
        before, after = _plain(getattr(old, name)), _plain(getattr(new, name))
        if name not in skipped and before != after:
            yield Change("changes", f"{key}: {name} {_shown(before)} → {_shown(after)}")


def _actions(old: Connector, new: Connector) -> Iterator[Change]:
    before = {k: a for k, a in old.actions.items() if isinstance(a, Action) and not a.internal}
    after = {k: a for k, a in new.actions.items() if isinstance(a, Action) and not a.internal}
    for key in sorted(before.keys() - after.keys()):
        yield Change("breaks", f"the action `{key}` is gone")
    for key in sorted(after.keys() - before.keys()):
        yield Change("adds", f"the action `{key}`")
    for key in sorted(before.keys() & after.keys()):
        yield from _action(before[key], after[key])


def _action(old: Action, new: Action) -> Iterator[Change]:
    inputs, others = {i.name: i for i in old.inputs}, {i.name: i for i in new.inputs}
    for name in inputs.keys() - others.keys():
        yield Change("breaks", f"{new.key}: the input `{name}` is gone")
    for name, one in others.items():
        if name not in inputs:
            effect: Effect = "breaks" if one.required else "adds"
            yield Change(effect, f"{new.key}: the input `{name}`" + (", which is required" if one.required else ""))
        elif one != inputs[name]:
            stricter = one.required and not inputs[name].required
            stricter = stricter or one.schema.get("type") != inputs[name].schema.get("type")
            yield Change("breaks" if stricter else "changes", f"{new.key}: the input `{name}` differs")
    if old.paged and not new.paged:
        yield Change("breaks", f"{new.key}: gives no pages any more")
    for name in (
        "request",
        "steps",
        "paging",
        "items",
        "result",
        "mapping",
        "meanings",
        "effects",
        "scopes",
        "program",
    ):
        before, after = _plain(getattr(old, name)), _plain(getattr(new, name))
        if before != after:
            yield Change("changes", f"{new.key}: {name} {_shown(before)} → {_shown(after)}")
    if (old.label, old.help) != (new.label, new.help):
        yield Change("changes", f"{new.key}: says something else of itself")


def _sets(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    for value in old:
        if value not in new:
            yield Change("changes", f"no longer in the {what} {value}")
    for value in new:
        if value not in old:
            yield Change("adds", f"the {what} {value}")


def _plain(value: Any) -> Any:
    """A value as JSON has it: templates by their text, records by their fields."""
    if isinstance(value, Template):
        return value.source
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    slots = getattr(type(value), "__slots__", None)
    if slots and hasattr(type(value), "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in type(value).__dataclass_fields__}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _shown(value: Any) -> str:
    if value in (None, {}, [], ""):
        return "nothing"
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= 160 else text[:159] + "…"
