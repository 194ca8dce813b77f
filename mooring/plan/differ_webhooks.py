"""Compare the webhook endpoints of a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mooring.connectors.yaml_source import Location
from mooring.plan.changes import Change, FieldChange
from mooring.plan.comparison import Comparison
from mooring.plan.matching import Entry, Known, match
from mooring.plan.references import resolve
from mooring.plan.spec import WebhookSpec
from mooring.protocol.redact import redact_url
from mooring.webhooks import secrets, service
from mooring.webhooks.models import WebhookEndpoint


async def compare_webhooks(
    found: Comparison, at: Location, path: tuple[str, ...], specs: Sequence[WebhookSpec] | None
) -> None:
    """Note what has to change so that the project's endpoints are those of the file."""
    if specs is None:
        return
    project = found.projects.get(at)
    rows = await service.search(found.tx, project) if project else []
    entries = []
    for index, spec in enumerate(specs):
        place: Location = (*at, "webhooks", index)
        url = resolve(found.file, (*place, "url"), spec.url)
        was = resolve(found.file, (*place, "was"), spec.was)
        entries.append(Entry(place, url, was, spec.id))
    matched, left = match(found.file, entries, [Known(r.id, r.url, r) for r in rows])
    for spec, entry, row in zip(specs, entries, matched, strict=True):
        if entry.key is not None:
            await _webhook(found, entry, (*path, redact_url(entry.key)), spec, row)
    for thing in left:
        found.gone("webhook", at, (*path, redact_url(thing.row.url)), thing.id)


async def _webhook(
    found: Comparison, entry: Entry, path: tuple[str, ...], spec: WebhookSpec, row: WebhookEndpoint | None
) -> None:
    fields: list[FieldChange] = []
    want: dict[str, Any] = {}
    if row is None or row.url != entry.key:
        fields.append(FieldChange("url", redact_url(row.url) if row else None, redact_url(entry.key)))
        want["url"] = entry.key
    for name, value in _given(spec).items():
        old = getattr(row, name) if row else None
        same = set(old or ()) == set(value) if row and name == "events" else old == value
        if row is None or not same:
            fields.append(FieldChange(name, old, value))
            want[name] = value
    await _secrets(found, entry.at, path, spec, row, fields, want)
    if row is None:
        if spec.secrets is None:
            found.file.fault(entry.at, "a new endpoint needs `secrets`: one that the hub makes could not be shown here")
        found.plan.changes.append(Change("create", "webhook", entry.at, path, fields=tuple(fields), want=want))
    elif fields:
        found.plan.changes.append(Change("change", "webhook", entry.at, path, row.id, tuple(fields), want))


def _given(spec: WebhookSpec) -> dict[str, Any]:
    """The plain fields that the file gives, null as its default."""
    values: dict[str, Any] = {
        "description": spec.description,
        "events": list(dict.fromkeys(spec.events or [])),
        "enabled": spec.enabled is not False,
    }
    return {name: value for name, value in values.items() if name in spec.model_fields_set}


async def _secrets(
    found: Comparison,
    at: Location,
    path: tuple[str, ...],
    spec: WebhookSpec,
    row: WebhookEndpoint | None,
    fields: list[FieldChange],
    want: dict[str, Any],
) -> None:
    """Which secrets to add or to switch on; one that the file does not know is deleted with `prune` only."""
    if spec.secrets is None:
        return
    known = await secrets.open_all(found.tx, found.tools.vault, row) if row else []
    meant: dict[str, int] = {}
    for index, reference in enumerate(spec.secrets):
        value = resolve(found.file, (*at, "secrets", index), reference)
        if value is not None and value in meant:
            found.file.fault((*at, "secrets", index), "has the same value as one above")
        elif value is not None:
            meant[value] = index
    sleeping = {value: s.id for s, value in known if not s.active}
    awake = {value for s, value in known if s.active}
    for value, index in meant.items():
        if value in sleeping:
            fields.append(FieldChange(f"secrets.{sleeping[value]}.active", False, True))
            want.setdefault("wake", []).append(sleeping[value])
        elif value not in awake:
            fields.append(FieldChange(f"secrets.{index}", kept="set"))
            want.setdefault("add", []).append(value)
    for s, value in known:
        if value not in meant and row is not None:
            found.gone("webhook_secret", at, (*path, s.id), s.id, endpoint=row.id)
