"""Search over everything of a project: pages, connectors, accounts, log entries, webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get
from mooring.dashboard.view import View
from mooring.search import service
from mooring.search.service import Kind

HERE = PROJECT + "/search"
PAGES: Final = {
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
KINDS: Final[dict[Kind, tuple[str, str]]] = {
    "auth_config": ("Connector", "connectors"),
    "account": ("Account", "accounts"),
    "request_log": ("Log entry", "logs"),
    "webhook": ("Webhook", "webhooks"),
}
"""What people call a kind, and the folder of its pages."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer."""

    kind: str
    title: str
    detail: str
    url: str


@get(HERE, "viewer", api="GET /search")
async def show(view: View) -> Response:
    """The search box; with a query, what was found."""
    words = view.query("q")
    template = "search_hits.html" if "q" in view.request.query_params else "search.html"
    return render(view, template, hits=await _lines(view, words), words=words)


async def _lines(view: View, words: str) -> list[Line]:
    lower, base, t = words.lower(), view.base, view.t
    out = [Line(t("Page"), t(name), "", f"{base}/{path}") for path, name in PAGES.items() if lower in t(name).lower()]
    async with view.context.db.read() as tx:
        hits = await service.find(tx, view.project_id, view.context.registry, words)
    for hit in hits:
        name, folder = KINDS[hit.kind]
        out.append(Line(t(name), hit.title, hit.detail, f"{base}/{folder}/{hit.id}"))
    return out
