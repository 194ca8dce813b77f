"""Connectors: the catalogue, the project's auth configs, and everything that is done to one (rows 002-1…35, 003-1…20)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from mooring import errors
from mooring.accounts import listing
from mooring.auth_configs import availability, service
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod, Connector
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import Form, View

HERE = PROJECT + "/connectors"


@dataclass(frozen=True, slots=True)
class Row:
    """One auth config with what its row and its menu need."""

    config: AuthConfig
    connector: Connector | None
    method: AuthMethod | None
    accounts: int
    siblings: int
    """How many auth configs the connector has in this project, this one included."""
    unavailable: str | None
    """Why the connector was made unavailable in this project (row 003-20); None when it is available."""
    version_missing: bool = False
    """Whether the version that it is pinned to is not there."""

    @property
    def title(self) -> str:
        """The connector's name."""
        return self.connector.title if self.connector else self.config.connector_key

    @property
    def may_become_default(self) -> bool:
        """Rows 002-21 and 003-11: only a config that is not the default, which means that there are several."""
        return not self.config.is_default

    @property
    def may_be_deleted(self) -> bool:
        """Rows 002-20, 002-22, 003-9…12: no linked accounts, and the only config or not the default one."""
        return self.accounts == 0 and (self.siblings == 1 or not self.config.is_default)

    @property
    def keeps(self) -> str | None:
        """Why it can't be deleted, for the menu; None when it can."""
        if self.siblings > 1 and self.config.is_default:
            return "It is the default of several. Make another one the default first."
        return "It has linked accounts." if self.accounts else None

    @property
    def is_hidden(self) -> str | None:
        """Why the Hub does not show it though it is here (rows 002-34, 002-35); None when it does."""
        if self.version_missing:
            return "The version that it is pinned to is not there: its accounts do not serve."
        if not self.config.active:
            return "Disabled: not shown in the Hub, and its accounts do not serve."
        if not self.config.is_default:
            return "Not the default: shown only in sessions that name its ID."
        return None


async def rows_of(view: View) -> list[Row]:
    """All auth configs of the project."""
    async with view.context.db.read() as tx:
        configs, _ = await service.search(tx, view.project_id)
        accounts = await listing.count_by_config(tx, view.project_id)
        off = await availability.reasons(tx, view.project_id)
    siblings = Counter(c.connector_key for c in configs)
    out = []
    for config in configs:
        # Where the pinned version is not there, the newest one shows what the config is about.
        pinned = view.context.registry.of(config)
        connector = pinned or view.context.registry.get(config.connector_key)
        method = connector.auth.get(config.method_key) if connector else None
        key = config.connector_key
        out.append(
            Row(config, connector, method, accounts.get(config.id, 0), siblings[key], off.get(key), pinned is None)
        )
    return sorted(out, key=lambda r: (r.title.lower(), not r.config.is_default, r.config.created_at))


async def row_of(view: View) -> Row:
    """The auth config that the path names. Raises NotFound."""
    found = next((row for row in await rows_of(view) if row.config.id == view.path("id")), None)
    if found is None:
        raise errors.NotFound(service.NOT_FOUND)
    return found


@get(HERE, "viewer", api="GET /auth_configs, GET /connectors/meta")
async def show(view: View) -> Response:
    """What is set up, searched and filtered by category."""
    rows = await rows_of(view)
    words, category = view.query("q").lower(), view.query("category")
    counts = Counter(c for row in rows for c in (row.connector.categories if row.connector else ()))
    shown = [
        row
        for row in rows
        if words in f"{row.title} {row.config.name} {row.config.connector_key} {row.config.id}".lower()
        and (not category or (row.connector is not None and category in row.connector.categories))
    ]
    return render(view, "connectors.html", rows=rows, shown=shown, counts=sorted(counts.items()), category=category)


@get(HERE + "/new", "admin", api="GET /connectors/meta")
async def choose(view: View) -> Response:
    """The catalogue, to choose from."""
    every = list((await view.context.registry.complete()).values())
    drafts = view.query("drafts") == "yes"
    connectors = [c for c in every if drafts or c.stage != "draft"]
    counts = Counter(category for c in connectors for category in c.categories)
    words, category = view.query("q").lower(), view.query("category")
    shown = [
        c
        for c in connectors
        if words in f"{c.title} {c.key} {' '.join(c.categories)}".lower() and (not category or category in c.categories)
    ]
    configured = Counter(row.config.connector_key for row in await rows_of(view))
    async with view.context.db.read() as tx:
        off = await availability.reasons(tx, view.project_id)
    return render(
        view,
        "connector_choose.html",
        shown=shown,
        total=len(connectors),
        drafts=drafts,
        hidden=len(every) - len(connectors),
        counts=sorted(counts.items()),
        category=category,
        configured=configured,
        off=off,
    )


@get(HERE + "/new/{key}", "admin", api="GET /connectors/meta/{provider}")
async def ask_create(view: View) -> Response:
    """The form of one connector: authentication type, fields, default or not."""
    connector = service.find_connector(view.context.registry, view.path("key"))
    async with view.context.db.read() as tx:
        default = await service.default_for(tx, view.project_id, connector.key)
        off = await availability.reasons(tx, view.project_id)
    return render(
        view,
        "connector_form.html",
        connector=connector,
        default=default,
        pins=pins_of(view, connector.key),
        newest=connector.version,
        callback=view.context.callback_url(connector.key),
        row=None,
        unavailable=off.get(connector.key),
    )


@post(HERE + "/new/{key}", "admin", api="POST /auth_configs")
async def create(view: View) -> Response:
    """Save a new auth config."""
    form = await view.form()
    context = view.context
    connector = service.find_connector(context.registry, view.path("key"))
    method = service.find_method(connector, form.get("method"))
    async with context.db.begin() as tx:
        await service.create(
            tx,
            context.vault,
            context.registry,
            view.project_id,
            connector_key=connector.key,
            method_key=method.key,
            name=form.get("name")[:200] or None,
            environment=form.get("environment")[:40] or None,
            pin=form.get("version")[:40] or None,
            setup=setup_of(form, method, new=True),
            default=form.get("default") == "yes",
        )
    return view.go(f"{view.base}/connectors", "created")


def pins_of(view: View, key: str) -> list[str]:
    """What an auth config can be pinned to, the loosest first: `1.x.x`, `1.2.x`, `1.2.0` of every version there is."""
    out: list[str] = []
    for version in view.context.registry.versions(key):
        major, minor, _ = version.split(".")
        out += [f"{major}.x.x", f"{major}.{minor}.x", version]
    return list(dict.fromkeys(out))


def setup_of(form: Form, method: AuthMethod, *, new: bool) -> dict[str, Any]:
    """The set-up that a form gives. A secret that is left empty stays what it is (rule W10)."""
    given = form.prefixed(f"setup.{method.key}.")
    out: dict[str, Any] = {}
    for spec in method.app_fields:
        value = given.get(spec.key, "").strip()
        if value:
            out[spec.key] = value
        elif not new and not spec.secret and spec.key in given and not spec.required:
            out[spec.key] = None
    if method.oauth2 is not None and "scopes" in given:
        scopes = given["scopes"].replace(",", " ").split()
        if scopes != list(method.oauth2.scopes):
            out["scopes"] = scopes
    return out


@get(HERE + "/{id}", "viewer", api="GET /auth_configs/{id}")
async def edit(view: View) -> Response:
    """One auth config, to look at and to change. Its secrets are never shown."""
    row = await row_of(view)
    if row.connector is None or row.method is None:
        raise errors.Unprocessable("this connector is no longer in the catalogue")
    return render(
        view,
        "connector_form.html",
        connector=row.connector,
        default=None,
        pins=pins_of(view, row.config.connector_key),
        newest=view.context.registry[row.config.connector_key].version,
        callback=view.context.callback_url(row.config.connector_key),
        row=row,
        unavailable=row.unavailable,
    )


@post(HERE + "/{id}", "admin", api="PATCH /auth_configs/{id}")
async def change(view: View) -> Response:
    """Change name, fields and scopes."""
    row = await row_of(view)
    form = await view.form()
    if row.method is None:
        raise errors.Unprocessable("this connector is no longer in the catalogue")
    pin = form.get("version")[:40] or None
    await _change(
        view,
        name=form.get("name")[:200] or None,
        pin=pin if pin != (row.config.connector_pinned_version or "latest") else None,
        setup=setup_of(form, row.method, new=False) or None,
    )
    return view.go(f"{view.base}/connectors", "saved")


async def _change(view: View, **values: Any) -> None:
    context = view.context
    async with context.db.begin() as tx:
        await service.change(tx, context.vault, context.registry, view.project_id, view.path("id"), **values)


@get(HERE + "/{id}/disable", "admin")
async def ask_disable(view: View) -> Response:
    """Warn before disabling, with the number of linked accounts (rows 002-12, 002-13)."""
    return render(view, "connector_disable.html", row=await row_of(view))


@post(HERE + "/{id}/disable", "admin", api='PATCH /auth_configs/{id} {"active": false}')
async def disable(view: View) -> Response:
    """Take it out of the Hub; its accounts become inactive."""
    await _change(view, active=False)
    return view.go(f"{view.base}/connectors", "disabled")


@post(HERE + "/{id}/enable", "admin", api='PATCH /auth_configs/{id} {"active": true}')
async def enable(view: View) -> Response:
    """Put it back; its accounts are what they were (row 002-14)."""
    await _change(view, active=True)
    return view.go(f"{view.base}/connectors", "enabled")


@post(HERE + "/{id}/default", "admin", api='PATCH /auth_configs/{id} {"default": true}')
async def make_default(view: View) -> Response:
    """Make it the one whose form the Hub shows."""
    await _change(view, default=True)
    return view.go(f"{view.base}/connectors", "default")


@get(HERE + "/{id}/delete", "admin")
async def ask_delete(view: View) -> Response:
    """The dialog before a deletion."""
    return render(view, "connector_delete.html", row=await row_of(view))


@post(HERE + "/{id}/delete", "admin", api="DELETE /auth_configs/{id}")
async def delete(view: View) -> Response:
    """Delete it; the service refuses what the rules forbid, whatever the menu showed."""
    async with view.context.db.begin() as tx:
        await service.remove(tx, view.project_id, view.path("id"))
    return view.go(f"{view.base}/connectors", "deleted")


def shown_setup(row: Row) -> Mapping[str, str]:
    """The public part of a set-up, for a form."""
    return {k: v for k, v in row.config.setup.items() if isinstance(v, str)}
