"""Settings of a project: who is in it, from where keys may call, how long logs are kept, export, and the host's settings."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.responses import Response, StreamingResponse

from mooring import errors
from mooring.accounts import listing
from mooring.accounts.api import render as render_account
from mooring.auth_configs import service as auth_configs
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View
from mooring.identity import addresses, audit, project_settings, projects, roles, users
from mooring.identity.project_settings import SettingsChange
from mooring.kit import clock
from mooring.webhooks import service as webhooks

HERE = PROJECT + "/settings"
ADVANCED: Final = {
    "off": "No, of no call",
    "errors": "Of failed calls (status 400 and up)",
    "all": "Of every call",
}
"""Which calls keep headers and bodies, in the words of the page."""


@get(HERE, "viewer", api="GET /project, GET /projects/{project}, GET /projects/{project}/members")
async def show(view: View) -> Response:
    """What is set for this project, and what the host sets for all."""
    async with view.context.db.read() as tx:
        people = await users.members(tx, view.project.organization_id)
        own = await users.project_roles(tx, view.project.id)
        hub = await project_settings.get(tx, view.project_id)
    settings = view.context.settings
    members = [
        (user, "admin" if role == "admin" else own.get(user.id), role == "admin")
        for user, role in people
        if role == "admin" or user.id in own
    ]
    others = [user for user, role in people if role != "admin" and user.id not in own]
    mine = addresses.contains(addresses.parse_networks(view.project.ip_allowlist), view.address)
    return render(
        view,
        "settings.html",
        members=members,
        others=others,
        roles=roles.PROJECT_ROLES,
        meanings=roles.MEANINGS,
        settings=settings,
        egress=[entry.strip() for entry in settings.egress_allow.split(",") if entry.strip()],
        mine=mine,
        hub=hub,
        hub_languages=project_settings.LANGUAGES,
        own_addresses=[a.strip() for a in settings.egress_addresses.split(",") if a.strip()],
        limits=projects.LOG_DAYS,
        advanced=ADVANCED,
        detail_limit=project_settings.MOST_ADVANCED_LOGS_DAYS,
    )


@post(HERE + "/ip-allowlist", "admin", api="PUT /projects/{project}/ip_allowlist", confirmed=True)
async def set_ip_allowlist(view: View) -> Response:
    """Say from where API keys may call: addresses, ranges and networks, one per line."""
    form = await view.form()
    entries = form.raw("entries").replace(",", "\n").splitlines()
    async with view.context.db.begin() as tx:
        await projects.set_ip_allowlist(tx, view.project.id, entries)
    return view.go(f"{view.base}/settings", "saved")


@post(HERE + "/hub", "admin", api="PATCH /project")
async def set_hub(view: View) -> Response:
    """Change what the Hub shows of this project: name, logo, colours, language, contact, methods."""
    form = await view.form()
    change: dict[str, Any] = {
        name: form.get(name) or None
        for name in ("display_name", "accent_light", "accent_dark", "support_contact", "default_language")
    }
    change["offer_all_methods"] = form.flag("offer_all_methods")
    if form.flag("drop_logo"):
        change["logo"] = None
    elif form.get("logo"):
        try:
            change["logo"] = base64.b64decode(form.get("logo"), validate=True)
        except (binascii.Error, ValueError):
            raise errors.ValidationFailed("the logo can't be read", errors=["logo: must be a picture"]) from None
    async with view.context.db.begin() as tx:
        await project_settings.change(tx, view.project_id, SettingsChange(**change))
    return view.go(f"{view.base}/settings", "saved")


@post(HERE + "/origins", "admin", api="PATCH /project", confirmed=True)
async def set_origins(view: View) -> Response:
    """Say which pages may embed the Hub, and where OAuth may return to."""
    form = await view.form()
    change = SettingsChange(
        allowed_origins=[line.strip() for line in form.raw("allowed_origins").splitlines() if line.strip()],
        return_urls=[line.strip() for line in form.raw("return_urls").splitlines() if line.strip()],
    )
    async with view.context.db.begin() as tx:
        await project_settings.change(tx, view.project_id, change)
    return view.go(f"{view.base}/settings", "saved")


@post(HERE + "/log-days", "admin", api="PATCH /projects/{project}")
async def set_log_days(view: View) -> Response:
    """Say how long request logs are kept."""
    form = await view.form()
    if not form.get("days").isdigit():
        raise errors.ValidationFailed("the retention is not valid", errors=["log_days: must be a number of days"])
    async with view.context.db.begin() as tx:
        await projects.set_log_days(tx, view.project.id, int(form.get("days")[:6]))
    return view.go(f"{view.base}/settings", "saved")


@post(HERE + "/advanced-logs", "admin", api='PATCH /project {"advanced_logs": "errors"}', confirmed=True)
async def set_advanced_logs(view: View) -> Response:
    """Say of which calls headers and bodies are kept, redacted and sealed, and for how long."""
    form = await view.form()
    days = form.get("advanced_logs_days")
    if not days.isdigit():
        fault = "advanced_logs_days: must be a number of days"
        raise errors.ValidationFailed("the retention is not valid", errors=[fault])
    change = SettingsChange(advanced_logs=form.get("advanced_logs"), advanced_logs_days=int(days[:6]))
    async with view.context.db.begin() as tx:
        await project_settings.change(tx, view.project_id, change)
    return view.go(f"{view.base}/settings", "saved")


@post(
    HERE + "/members",
    "admin",
    api="PUT /projects/{project}/members/{user}, DELETE /projects/{project}/members/{user}",
    confirmed=True,
)
async def set_role(view: View) -> Response:
    """Give a member of the organization a role in this project, change it, or take it away."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        await users.set_project_role(tx, view.project, form.get("user"), form.get("role") or None)
    return view.go(f"{view.base}/settings", "saved")


@get(HERE + "/export", "admin", confirmed=True)
async def ask_export(view: View) -> Response:
    """Say what an export holds."""
    return render(view, "export.html")


@get(HERE + "/export/download", "admin", api="GET /auth_configs, GET /accounts, GET /webhooks", confirmed=True)
async def export(view: View) -> Response:
    """Everything of the project that is no secret, as one JSON document, streamed."""
    async with view.context.db.begin() as tx:
        audit.note(
            tx, "project.exported", project_id=view.project.id, organization_id=view.project.organization_id,
            target=("project", view.project.id), label=view.project.name,
        )  # fmt: skip
    name = f"mooring-{view.project.id}-{clock.now():%Y%m%d-%H%M%S}.json"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_export(view), media_type="application/json", headers=headers)


async def _export(view: View) -> AsyncIterator[bytes]:
    project = view.project
    async with view.context.db.read() as tx:
        configs, _ = await auth_configs.search(tx, view.project_id)
        endpoints = await webhooks.search(tx, view.project_id)
    head = {
        "project": {"id": project.id, "name": project.name, "created_at": clock.iso(project.created_at)},
        "exported_at": clock.iso(clock.now()),
        "settings": {"ip_allowlist": project.ip_allowlist, "log_days": project.log_days},
        "auth_configs": [
            {
                "id": c.id, "name": c.name, "connector_key": c.connector_key, "authentication_config_key": c.method_key,
                "active": c.active, "default": c.is_default, "setup": c.setup, "secrets_set": c.sealed is not None,
                "created_at": clock.iso(c.created_at),
            }
            for c in configs
        ],
        "webhooks": [
            {"id": w.id, "url": w.url, "description": w.description, "events": w.events, "enabled": w.enabled}
            for w in endpoints
        ],
    }  # fmt: skip
    yield json.dumps(head, indent=1).rstrip("}").rstrip().encode() + b',\n "accounts": ['
    before, first = None, True
    while True:
        async with view.context.db.read() as tx:
            rows, before = await listing.page(tx, view.project_id, listing.Wanted(), before=before, limit=500)
        for row in rows:
            shape = render_account(view.context, row.account, row.config).model_dump(mode="json")
            yield (b"\n  " if first else b",\n  ") + orjson.dumps(shape)
            first = False
        if before is None:
            break
    yield b"\n ]\n}\n"
