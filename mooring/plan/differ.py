"""Compare the file with the hub: organizations and projects; what is in a project has its own files beside this one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.auth_configs import availability
from mooring.auth_configs import service as auth_configs
from mooring.connectors.yaml_source import Location
from mooring.identity import addresses, project_settings, projects, users
from mooring.identity.models import Organization, Project
from mooring.identity.project_settings import ProjectSettings
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock
from mooring.plan import own_connectors, references
from mooring.plan.changes import Change, FieldChange
from mooring.plan.comparison import Comparison, Tools
from mooring.plan.differ_auth_configs import compare_auth_configs
from mooring.plan.differ_webhooks import compare_webhooks
from mooring.plan.matching import Entry, Known, match
from mooring.plan.reading import HubFile
from mooring.plan.spec import ProjectSpec

LOG_DAYS: Final = 90


async def compare(tx: AsyncSession, tools: Tools, file: HubFile, *, prune: bool) -> Comparison:
    """Find all that has to change. Raises HubFileError with everything that is wrong with the file."""
    found = Comparison(tx, tools, file, prune)
    own_connectors.check(file, tools.registry)
    names = [organization.name for organization in file.spec.organizations]
    # Two who apply go one after the other, and see what the first one wrote.
    rows = await tx.scalars(
        select(Organization)
        .where(Organization.name.in_(names))
        .order_by(Organization.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    known = {row.name: row for row in rows}
    for index, spec in enumerate(file.spec.organizations):
        at: Location = ("organizations", index)
        if names.index(spec.name) < index:
            file.fault((*at, "name"), "this organization stands above already")
            continue
        if _clean(file, (*at, "name"), spec.name) != spec.name:
            file.fault((*at, "name"), "has blanks that the hub would not keep")
        row = known.get(spec.name)
        if row is None:
            found.plan.changes.append(Change("create", "organization", at, (spec.name,), want={"name": spec.name}))
        else:
            found.organizations[at] = row.id
        await _projects(found, at, spec.name, row.id if row else None, spec.projects)
    file.check()
    return found


def _clean(file: HubFile, at: Location, name: str) -> str:
    try:
        return users.clean_name(name)
    except errors.ValidationFailed as e:
        file.fault(at, e.errors[0])
        return name


async def _projects(
    found: Comparison, at: Location, organization: str, id: int | None, specs: Sequence[ProjectSpec] | None
) -> None:
    if specs is None:
        return
    query = select(Project).where(Project.organization_id == id).order_by(Project.created_at, Project.id)
    rows = (await found.tx.scalars(query.execution_options(populate_existing=True))).all() if id else []
    live = {row.name for row in rows if row.deleted_at is None}
    entries = [Entry((*at, "projects", i), s.name, s.was, s.id) for i, s in enumerate(specs)]
    named = {s.id for s in specs}
    known = [Known(r.id, r.name, r) for r in rows if r.deleted_at is None or _comes_back(r, live, named)]
    matched, left = match(found.file, entries, known)
    for spec, entry, row in zip(specs, entries, matched, strict=True):
        path = (organization, spec.name)
        await _project(found, entry.at, path, spec, row)
    for thing in left:
        if thing.row.deleted_at is None:
            found.gone("project", at, (organization, thing.row.name), thing.id)


def _comes_back(row: Project, live: set[str], named: set[str | None]) -> bool:
    """Whether a deleted project may be meant: its days of grace last, and no other has its name now."""
    end = projects.gone_at(row)
    return end is not None and end > clock.now() and (row.id in named or row.name not in live)


async def _project(
    found: Comparison, at: Location, path: tuple[str, ...], spec: ProjectSpec, row: Project | None
) -> None:
    _clean(found.file, (*at, "name"), spec.name)
    if row is not None:
        await lock_project(found.tx, ProjectId(row.id))
        found.projects[at] = ProjectId(row.id)
    fields, want = await _project_fields(found, at, spec, row)
    if row is None:
        found.plan.changes.append(Change("create", "project", at, path, fields=fields, want=want))
    elif row.deleted_at is not None:
        found.plan.changes.append(Change("restore", "project", at, path, row.id, fields, want))
    elif fields:
        found.plan.changes.append(Change("change", "project", at, path, row.id, fields, want))
    await compare_auth_configs(found, at, path, spec.auth_configs)
    await compare_webhooks(found, at, path, spec.webhooks)


async def _project_fields(
    found: Comparison, at: Location, spec: ProjectSpec, row: Project | None
) -> tuple[tuple[FieldChange, ...], Mapping[str, Any]]:
    """What differs, and the values for the services."""
    want: dict[str, Any] = {"name": spec.name}
    given = spec.model_fields_set
    id = ProjectId(row.id) if row else None
    now: dict[str, Any] = {
        "name": row.name if row else spec.name,
        "log_days": row.log_days if row else LOG_DAYS,
        "ip_allowlist": list(row.ip_allowlist) if row else [],
        "unavailable": await availability.reasons(found.tx, id) if id else {},
    }
    if "log_days" in given:
        want["log_days"] = LOG_DAYS if spec.log_days is None else spec.log_days
    if "ip_allowlist" in given:
        try:
            want["ip_allowlist"] = addresses.clean(spec.ip_allowlist or [])
        except errors.ValidationFailed as e:
            found.file.refuse(at, e)
    if "unavailable" in given:
        want["unavailable"] = _unavailable(found, (*at, "unavailable"), spec.unavailable or {})
    fields = [FieldChange(k, now[k], v) for k, v in want.items() if now[k] != v]
    changed = {f.name: f.new for f in fields}
    if "unavailable" in changed:
        changed["available"] = [key for key in now["unavailable"] if key not in want["unavailable"]]
    current = await project_settings.get(found.tx, id) if id else ProjectSettings("", spec.name)
    settings = _settings(found.file, (*at, "settings"), spec)
    different = {k: v for k, v in settings.items() if _kept(current, k) != _kept_as(k, v)}
    fields += [FieldChange(f"settings.{k}", _kept(current, k), _kept_as(k, v)) for k, v in different.items()]
    return tuple(fields), {"name": spec.name, **changed, "settings": different}


def _unavailable(found: Comparison, at: Location, given: Mapping[str, str]) -> dict[str, str]:
    out = {}
    for key, reason in given.items():
        try:
            auth_configs.find_connector(found.tools.registry, key)
        except errors.NotFound as e:
            found.file.fault((*at, key), f"{e.message}. {e.error_hint}", on_key=True)
        out[key] = " ".join(reason.split())
    return out


def _settings(file: HubFile, at: Location, spec: ProjectSpec) -> dict[str, Any]:
    """The settings that are given, as the hub keeps them."""
    if spec.settings is None:
        return {}
    values = {name: getattr(spec.settings, name) for name in spec.settings.model_fields_set}
    if spec.settings.logo is not None:
        values["logo"] = references.content_of(file, (*at, "logo"), spec.settings.logo)
    try:
        out = project_settings.checked(values)
    except errors.ValidationFailed as e:
        file.refuse(at, e)
        return {}
    out.pop("logo_type", None)
    return out


def _kept(settings: ProjectSettings, name: str) -> Any:
    if name == "logo":
        return f"image {settings.logo_version}" if settings.logo_version else None
    value = getattr(settings, name)
    return list(value) if isinstance(value, tuple) else value


def _kept_as(name: str, value: Any) -> Any:
    if name == "logo" and value is not None:
        return f"image {hashlib.sha256(value).hexdigest()[:16]}"
    return value
