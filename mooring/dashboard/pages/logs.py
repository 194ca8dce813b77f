"""The request log: filters, charts, one call with its steps and why it failed, export, and the tail as it grows."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

import orjson
from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from mooring import errors
from mooring.auth_configs import service as auth_configs
from mooring.dashboard import charts
from mooring.dashboard.explain import explain
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get
from mooring.dashboard.view import View
from mooring.identity import project_settings
from mooring.identity import service as identity
from mooring.kit import clock
from mooring.logs import api, browse, service, stats
from mooring.logs.browse import Search
from mooring.logs.models import RequestLog
from mooring.logs.service import LogFilter

HERE = PROJECT + "/logs"
RANGES: Final = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
CLASSES: Final = {"2xx": (200, 300), "3xx": (300, 400), "4xx": (400, 500), "5xx": (500, 600)}
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
EXPORTED: Final = 100_000  # rows at most
TAIL: Final = 100  # rows of one look at the tail


def search_of(view: View) -> Search:
    """The filters of the address. Raises BadRequest."""
    status = view.query("status")
    low, below = CLASSES.get(status, (None, None))
    if status.isdigit() and len(status) == 3:
        low, below = int(status), int(status) + 1
    slower = view.query("slower")
    if slower and not slower.isdigit():
        raise errors.BadRequest("slower must be a number of milliseconds")

    def one(name: str) -> list[str]:
        return [view.query(name)] if view.query(name) else []

    span = RANGES.get(view.query("range"))
    return Search(
        LogFilter(
            account_ids=one("account"),
            origin_owner_ids=one("owner"),
            providers=one("provider"),
            http_methods=one("method"),
            request_ids=one("id"),
            source_ids=one("source"),
            start_date=view.moment("from") or (clock.now() - span if span else None),
            end_date=view.moment("to"),
            success={"ok": True, "failed": False}.get(view.query("result")),
        ),
        status_from=low,
        status_below=below,
        path=view.query("path") or None,
        slower_ms=float(slower) if slower else None,
    )


def _category(view: View) -> str:
    return "platform" if view.query("kind") == "platform" else "unified"


@get(HERE, "viewer", api="GET /requests/logs, GET /requests/platform-logs")
async def show(view: View) -> Response:
    """The log, newest first."""
    search, category = search_of(view), _category(view)
    await view.context.logs.flush()
    async with view.context.db.read() as tx:
        page = await browse.page(tx, view.project_id, search, category=category, before=view.query("before") or None)
        configs, _ = await auth_configs.search(tx, view.project_id)
        hub = await project_settings.get(tx, view.project_id)
    return render(
        view,
        "logs.html",
        page=page,
        reached=browse.reached(page) if page.partly else None,
        category=category,
        ranges=RANGES,
        classes=CLASSES,
        methods=METHODS,
        providers=sorted({c.connector_key for c in configs} | set(search.filter.providers)),
        registry=view.context.registry,
        newest=page.rows[0].id if page.rows else "",
        keeping=hub.advanced_logs,
    )


@get(HERE + "/tail", "viewer", api="GET /requests/logs")
async def tail(view: View) -> Response:
    """The rows that came after one, for a page that stays open."""
    search = search_of(view)
    after = view.query("after") or None
    if after is None:
        search = replace(search, filter=replace(search.filter, start_date=clock.now() - timedelta(seconds=5)))
    await view.context.logs.flush()
    async with view.context.db.read() as tx:
        page = await browse.page(tx, view.project_id, search, category=_category(view), after=after, limit=TAIL)
    newest = page.rows[0].id if page.rows else after or ""
    return render(view, "logs_tail.html", page=page, newest=newest, registry=view.context.registry)


@get(HERE + "/charts", "viewer", api="GET /requests/statistics")
async def show_charts(view: View) -> Response:
    """Volume, errors and latency, of all connectors and of each."""
    name = view.query("range") if view.query("range") in RANGES else "24h"
    since = clock.now() - RANGES[name]
    async with view.context.db.read() as tx:
        found = await stats.series(tx, view.project_id, since=since, steps=6 if name == "1h" else 48)
    whole, each = found[0], found[1:]
    return render(
        view,
        "charts.html",
        whole=whole,
        volume=Markup(charts.bars(whole, view.t("Calls and failed calls"))),  # noqa: S704 - drawn from numbers
        latency=Markup(charts.curve(whole, view.t("Latency, 95th percentile"))),  # noqa: S704
        each=[(s, Markup(charts.spark(s))) for s in each],  # noqa: S704
        ranges=RANGES,
        chosen=name,
        registry=view.context.registry,
    )


@get(HERE + "/export", "viewer", api="GET /requests/logs")
async def export(view: View) -> Response:
    """The rows of the filter as CSV or JSON, streamed: memory stays flat however many there are."""
    search, category = search_of(view), _category(view)
    kind = "json" if view.query("as") == "json" else "csv"
    await view.context.logs.flush()
    name = f"mooring-logs-{clock.now():%Y%m%d-%H%M%S}.{kind}"
    body = _json_lines(view, search, category) if kind == "json" else _csv_lines(view, search, category)
    media = "application/json" if kind == "json" else "text/csv; charset=utf-8"
    return StreamingResponse(body, media_type=media, headers={"content-disposition": f'attachment; filename="{name}"'})


async def _all(view: View, search: Search, category: str) -> AsyncIterator[RequestLog]:
    before, sent = None, 0
    while sent < EXPORTED:
        async with view.context.db.read() as tx:
            page = await browse.page(tx, view.project_id, search, category=category, before=before, limit=500)
        for row in page.rows:
            yield row
        sent += len(page.rows)
        before = page.next
        if before is None:
            return


async def _json_lines(view: View, search: Search, category: str) -> AsyncIterator[bytes]:
    yield b"["
    first = True
    async for row in _all(view, search, category):
        yield (b"" if first else b",\n") + orjson.dumps(api.render(row, steps=True))
        first = False
    yield b"]\n"


_COLUMNS: Final = (
    "id", "started_at", "duration_ms", "method", "path", "url", "status", "success", "error_code", "provider",
    "account_id", "origin_owner_id", "service", "action", "source_type", "source_id", "source_ip",
)  # fmt: skip


async def _csv_lines(view: View, search: Search, category: str) -> AsyncIterator[bytes]:
    yield _csv_line(_COLUMNS)
    async for row in _all(view, search, category):
        values = [getattr(row, name) for name in _COLUMNS]
        values[1] = clock.iso(row.started_at)
        yield _csv_line(["" if v is None else _plain(v) for v in values])


def _plain(value: object) -> object:
    """Spreadsheets run what begins like a formula: a path that a stranger chose must not."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _csv_line(values: object) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(values)  # type: ignore[arg-type]
    return line.getvalue().encode("utf-8", "replace")


@get(HERE + "/{id}", "viewer", api="GET /requests/logs/{id}")
async def detail(view: View) -> Response:
    """One call: what was asked, every request to the provider behind it, why it failed; headers and bodies if kept."""
    await view.context.logs.flush()
    async with view.context.db.read() as tx:
        row = await service.get(tx, view.project_id, view.path("id"))
        hub = await project_settings.get(tx, view.project_id)
        # Customers' data: as over the API, only for whoever may call the provider.
        kept = await service.open_detail(tx, view.context.vault, row) if view.may("member") else None
        source = None
        if row.source_type == "API" and row.source_id:
            keys = await identity.list_api_keys(tx, view.project_id)
            source = next((key.label for key in keys if key.id == row.source_id), None)
    return render(
        view,
        "log.html",
        row=row,
        source=source,
        explanation=None if row.success else explain(row),
        curl=curl_of(view, row),
        retry=retry_path(row),
        kept=kept,
        keeping=hub.advanced_logs,
        registry=view.context.registry,
    )


def retry_path(row: RequestLog) -> str:
    """The path under the connector's base URL, for the request tester. Query values and bodies are not kept."""
    return row.path.removeprefix("/proxy") or "/"


def curl_of(view: View, row: RequestLog) -> str:
    """The call as a command. The key is a variable: nobody can read one here."""
    url = view.context.public_url
    if row.category == "unified":
        path = retry_path(row)
        lines = [f'curl -u "$API_KEY:" -X {shlex.quote(row.method)}']
        lines += ["  -H " + shlex.quote(f"x-account-id: {row.account_id}")] if row.account_id else []
        lines.append(f"  {shlex.quote(f'{url}/proxy{path}')}")
        return " \\\n".join(lines)
    return f'curl -u "$API_KEY:" -X {shlex.quote(row.method)} \\\n  {shlex.quote(url + row.path)}'
