"""Search over everything of a project: pages, connectors, accounts, log entries, keys, webhooks, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from mooring.accounts import listing
from mooring.auth_configs import service as auth_configs
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get
from mooring.dashboard.view import View
from mooring.kit import ids
from mooring.logs import service as logs
from mooring.logs.models import RequestLog
from mooring.logs.service import LogFilter
from mooring.webhooks import service as webhooks

HERE = PROJECT + "/search"
PAGES = {
    "connectors": "Connectors",
    "accounts": "Accounts",
    "logs": "Logs",
    "logs/charts": "Charts",
    "webhooks": "Webhooks",
    "events": "Events",
    "api-keys": "API keys",
    "settings": "Settings",
    "audit": "Audit log",
}


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found."""

    kind: str
    title: str
    detail: str
    url: str


@get(HERE, "viewer")
async def show(view: View) -> Response:
    """The search box; with a query, what was found."""
    words = view.query("q")
    if "q" not in view.request.query_params:
        return render(view, "search.html", hits=await _hits(view, ""), words="")
    return render(view, "search_hits.html", hits=await _hits(view, words), words=words)


async def _hits(view: View, words: str) -> list[Hit]:
    lower, base, t = words.lower(), view.base, view.t
    out = [Hit(t("Page"), t(name), "", f"{base}/{path}") for path, name in PAGES.items() if lower in t(name).lower()]
    if len(words) < 2:
        return out
    async with view.context.db.read() as tx:
        configs, _ = await auth_configs.search(tx, view.project_id)
        found = await listing.find(tx, view.project_id, words)
        endpoints = await webhooks.search(tx, view.project_id)
        rows: Sequence[RequestLog] = []
        if ids.time_of(words) is not None:
            rows, _ = await logs.search(
                tx, view.project_id, LogFilter(request_ids=[lower]), category="unified", limit=1
            )
    for config in configs:
        connector = view.context.registry.get(config.connector_key)
        title = connector.title if connector else config.connector_key
        if lower in f"{title} {config.name} {config.connector_key} {config.id}".lower():
            out.append(Hit(t("Connector"), title, config.name, f"{base}/connectors/{config.id}"))
    out += [
        Hit(
            t("Account"),
            a.label or a.origin_owner_name,
            f"{a.connector_key} · {a.origin_owner_id}",
            f"{base}/accounts/{a.id}",
        )
        for a in found
    ]
    out += [Hit(t("Log entry"), f"{r.method} {r.path}", str(r.status), f"{base}/logs/{r.id}") for r in rows]
    out += [
        Hit(t("Webhook"), w.url, w.description or "", f"{base}/webhooks/{w.id}")
        for w in endpoints
        if lower in f"{w.url} {w.id}".lower()
    ]
    return out
