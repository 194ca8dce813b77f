"""Compare the auth configs of a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mooring import errors
from mooring.auth_configs import service
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod
from mooring.connectors.yaml_source import Location
from mooring.plan.changes import Change, FieldChange
from mooring.plan.comparison import Comparison
from mooring.plan.matching import Entry, Known, match
from mooring.plan.references import resolve
from mooring.plan.spec import AuthConfigSpec, Reference


async def compare_auth_configs(
    found: Comparison, at: Location, path: tuple[str, ...], specs: Sequence[AuthConfigSpec] | None
) -> None:
    """Note what has to change so that the project's auth configs are those of the file."""
    if specs is None:
        return
    project = found.projects.get(at)
    rows = (await service.search(found.tx, project))[0] if project else []
    entries = [
        Entry(
            (*at, "auth_configs", i),
            (s.connector, s.method, s.name),
            (s.connector, s.method, s.was) if s.was else None,
            s.id,
        )
        for i, s in enumerate(specs)
    ]
    known = [Known(r.id, (r.connector_key, r.method_key, r.name), r) for r in rows]
    matched, left = match(found.file, entries, known)
    for spec, entry, row in zip(specs, entries, matched, strict=True):
        await _auth_config(found, entry.at, (*path, spec.connector, spec.name), spec, row)
    _check_defaults(found, entries, specs, matched, rows)
    for thing in sorted(left, key=lambda k: k.row.is_default):  # the default goes last
        where = (*path, thing.row.connector_key, thing.row.name)
        found.gone("auth_config", at, where, thing.id)


async def _auth_config(
    found: Comparison, at: Location, path: tuple[str, ...], spec: AuthConfigSpec, row: AuthConfig | None
) -> None:
    if row is not None and (row.connector_key, row.method_key) != (spec.connector, spec.method):
        found.file.fault(at, f"{row.id} is of {row.connector_key} / {row.method_key}, which can't be changed")
        return
    try:
        pin = spec.pin if "pin" in spec.model_fields_set or row is None else row.connector_pinned_version
        connector = service.find_version(found.tools.registry, spec.connector, pin)
        method = service.find_method(connector, spec.method)
    except errors.MooringError as e:
        key = "pin" if "pin" in e.message or "version" in e.message else "connector"
        key = "method" if "method" in e.message else key
        found.file.refuse((*at, key), e)
        for name, value in spec.setup.items():  # so that what is missing is told in the same breath
            resolve(found.file, (*at, "setup", name), value)
        return
    fields, want = _plain_fields(found, at, spec, row)
    setup, told = await _setup(found, at, spec, row, method)
    fields += told
    if setup:
        want["setup"] = setup
    want |= {"connector_key": spec.connector, "method_key": spec.method}
    if row is None:
        found.plan.changes.append(Change("create", "auth_config", at, path, fields=tuple(fields), want=want))
    elif fields:
        found.plan.changes.append(Change("change", "auth_config", at, path, row.id, tuple(fields), want))


def _plain_fields(
    found: Comparison, at: Location, spec: AuthConfigSpec, row: AuthConfig | None
) -> tuple[list[FieldChange], dict[str, Any]]:
    given = spec.model_fields_set
    fields, want = [], {}

    def compare(name: str, old: Any, new: Any) -> None:
        if row is None or old != new:
            fields.append(FieldChange(name, None if row is None else old, new))
            want[name] = new

    if row is None:
        compare("method", None, spec.method)
    compare("name", row.name if row else None, spec.name)
    if "environment" in given and spec.environment is not None:
        if row is not None and row.environment != spec.environment:
            found.file.fault((*at, "environment"), f"it is {row.environment}, and can't be changed")
        elif row is None:
            compare("environment", None, spec.environment)
    if "pin" in given:
        compare("pin", (row.connector_pinned_version if row else None) or "latest", spec.pin or "latest")
    if "active" in given:
        compare("active", row.active if row else None, spec.active is not False)
    if spec.default is not None:
        compare("default", row.is_default if row else None, spec.default)
    return fields, want


async def _setup(
    found: Comparison, at: Location, spec: AuthConfigSpec, row: AuthConfig | None, method: AuthMethod
) -> tuple[dict[str, Any], list[FieldChange]]:
    """The set-up keys that change with their values, and how to tell of them."""
    secret_keys = {f.key for f in method.app_fields if f.secret}
    changes: dict[str, Any] = {}
    before = len(found.file.faults)
    for key, value in spec.setup.items():
        place = (*at, "setup", key)
        if key in secret_keys and isinstance(value, str):
            found.file.fault(place, f"`{key}` is secret: write {{env: NAME}} or {{file: path}} instead of the value")
        changes[key] = resolve(found.file, place, value)
    if "scopes" in spec.model_fields_set:
        if method.oauth2 is None:
            found.file.fault((*at, "scopes"), "this method has no scopes", on_key=True)
        changes["scopes"] = spec.scopes
    public = dict(row.setup) if row else {}
    secret = await service.open_secrets(found.tx, found.tools.vault, row) if row else {}
    if len(found.file.faults) > before:
        return {}, []
    try:
        new_public, new_secret = service.merge_setup(method, public, secret, changes)
    except errors.ValidationFailed as e:
        found.file.refuse(at, e)
        return {}, []
    hidden = secret_keys | {key for key, value in spec.setup.items() if isinstance(value, Reference)}
    old, new = {**public, **secret}, {**new_public, **new_secret}
    different = [key for key in changes if old.get(key) != new.get(key)]
    return {key: changes[key] for key in different}, [_told(key, old, new, hidden) for key in different]


def _told(key: str, old: Mapping[str, Any], new: Mapping[str, Any], hidden: set[str]) -> FieldChange:
    name = "scopes" if key == "scopes" else f"setup.{key}"
    if key in hidden:
        how: Literal["set", "changes", "removed"] = "set" if key not in old else "changes" if key in new else "removed"
        return FieldChange(name, kept=how)
    return FieldChange(name, old.get(key), new.get(key))


def _check_defaults(
    found: Comparison,
    entries: Sequence[Entry],
    specs: Sequence[AuthConfigSpec],
    matched: Sequence[AuthConfig | None],
    rows: Sequence[AuthConfig],
) -> None:
    """Of each connector exactly one is the default: refuse a second one, and the end of the only one."""
    chosen: dict[str, Entry] = {}
    refusing: dict[str, Entry] = {}
    ends: set[str] = set()
    for entry, spec, row in zip(entries, specs, matched, strict=True):
        if spec.default and (first := chosen.setdefault(spec.connector, entry)) is not entry:
            line = found.file.source.position(first.at).line
            found.file.fault(
                (*entry.at, "default"), f"the one in line {line} is the default of {spec.connector} already"
            )
        if spec.default is False:
            refusing.setdefault(spec.connector, entry)
            ends |= {row.id} if row else set()
    for connector, entry in refusing.items():
        stays = any(r.connector_key == connector and r.is_default and r.id not in ends for r in rows)
        if connector not in chosen and not stays:
            found.file.fault(
                (*entry.at, "default"),
                "a connector with auth configs always has a default one; say `default: true` of another",
            )
