"""Build the ASGI application: the edge in front, the proxy's hot path beside the framework, one error renderer."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from mooring import __version__, errors, idempotent, manual
from mooring.accounts import api as accounts_api
from mooring.accounts.context import Context
from mooring.actions import api as actions_api
from mooring.actions import approvals_api, feedback_api
from mooring.auth_configs import api as auth_configs_api
from mooring.auth_configs import availability_api
from mooring.auth_configs import meta as connectors_meta
from mooring.connect import api as connect_api
from mooring.connect import assets, guides_api, hosted, hub_api, overview_api, pages, preflight_api
from mooring.connectors import api as connectors_api
from mooring.connectors import guide_pages
from mooring.grants import api as grants_api
from mooring.grants import oauth_api
from mooring.grants import pages as grant_pages
from mooring.identity import management_api, organizations_api, people_api, project_api, projects_api, sealing, users
from mooring.incoming import api as incoming_api
from mooring.kit import ids, jobs, json_body
from mooring.kit.exchange import Exchange
from mooring.kit.mounted import MountedExchange, unmounted
from mooring.kit.server import SAFE_HEADERS, AsgiApp, Receive, Scope, Send
from mooring.kit.web import DEFAULT_POLICY, Json, fault, install_error_handlers, limit_body, send_error
from mooring.logs import api as logs_api
from mooring.logs.writer import Entry
from mooring.mcp import endpoint as mcp_endpoint
from mooring.metrics import api as metrics_api
from mooring.operations import owner_api, system_api
from mooring.proxy import api as proxy_api
from mooring.proxy import handler as proxy_handler
from mooring.runtime import close_context, open_context
from mooring.search import api as search_api
from mooring.settings import Settings
from mooring.webhooks import api as webhooks_api

HUB_METHODS = b"GET, POST, PATCH, DELETE, OPTIONS"
HUB_HEADERS = b"Content-Type, x-hub-session-token, x-hub-version, x-hub-provider"
_HOT = proxy_handler.PREFIX.decode()
UNIFIED_LIMIT = 20 << 20  # bytes; the JSON envelope of /unified/proxy may carry a file


def create_app(settings: Settings, *, public_url: str) -> Edge:
    """Build the application of one process. Everything that needs a loop opens when the server starts it."""
    api = FastAPI(
        title="Mooring",
        version=__version__,
        description="The open, self-hosted integration hub.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would redirect to whatever the Host header says (rule O8)
    )
    install_error_handlers(api, pages.refusal_page)
    for module in (
        connect_api,
        hub_api,
        overview_api,
        pages,
        hosted,
        assets,
        manual,
        auth_configs_api,
        preflight_api,
        accounts_api,
        connectors_meta,
        availability_api,
        connectors_api,
        guide_pages,
        guides_api,
        project_api,
        proxy_api,
        approvals_api,
        actions_api,
        feedback_api,
        grants_api,
        oauth_api,
        grant_pages,
        logs_api,
        metrics_api,
        webhooks_api,
        incoming_api,
        search_api,
        management_api,
        people_api,
        organizations_api,
        projects_api,
        system_api,
        owner_api,
    ):
        api.include_router(module.router)
    _add_health(api)
    tools = mcp_endpoint.Endpoint()
    api.router.routes.extend(mcp_endpoint.routes(tools))
    return Edge(api, settings, public_url, tools)


def _add_health(api: FastAPI) -> None:
    @api.get("/livez", tags=["Health"])
    async def livez() -> dict[str, str]:
        """The process runs. Depends on nothing."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["Health"])
    async def readyz(request: Request) -> Json:
        """The process serves: its database answers, and it has the master keys that the data was sealed with.

        `oldest_job_seconds` is how long the oldest due piece of background work has waited. It refuses nothing: another
        host would not be quicker.
        """
        context: Context = request.app.state.context
        try:
            async with context.db.read() as tx:
                waited = await jobs.oldest_due(tx)
                lacking = await sealing.lacks_master_key(tx, context.vault)
        except (SQLAlchemyError, OSError):
            raise errors.Unavailable("the database does not answer") from None
        if lacking:
            raise errors.Unavailable(
                "rows of the database were sealed with a master key that this process does not have",
                hint="Give every host the same master key file.",
            )
        return Json({"status": "ready", "version": __version__, "oldest_job_seconds": waited})


def _refuse_nul(scope: Scope) -> None:
    """Refuse a NUL in path or query the same on both databases: PostgreSQL can't even compare one."""
    if "\0" in scope["path"]:
        raise errors.NotFound("no such path")
    if b"%00" in scope["query_string"]:
        raise errors.BadRequest("the query holds a NUL character")


def dashboard_serves(path: str) -> bool:
    """Whether a path belongs to the dashboard."""
    return path in {"/", "/dashboard"} or path.startswith("/dashboard/")


async def _cors(context: Context, scope: Scope) -> list[tuple[bytes, bytes]]:
    """The Hub's calls carry a token header and no cookie: any origin, until origins are registered (contract §10).

    A preflight and a refused token name no project. They meet the origins of all projects; what a project answers after
    that, only its own origins can read.
    """
    origins = scope.get("mooring.hub_origins")
    if origins is None:
        own = frozenset(context.settings.allowed_origins)
        try:
            registered, some_open = await context.projects.all_origins()
        except (SQLAlchemyError, OSError):  # the answer says so already; it must not fail for its headers
            registered, some_open = frozenset(), False
        origins = own | registered if own or not some_open else frozenset()
    allowed = b"*"
    out = []
    if origins:
        origin = next((v for n, v in scope["headers"] if n == b"origin"), b"")
        out.append((b"vary", b"Origin"))
        asking = origin.decode("latin-1").lower()
        if asking not in origins and asking != context.own_origin:
            return out
        allowed = origin
    out += [
        (b"access-control-allow-origin", allowed),
        (b"access-control-allow-methods", HUB_METHODS),
        (b"access-control-allow-headers", HUB_HEADERS),
        (b"access-control-max-age", b"600"),
    ]
    return out


class Edge:
    """What every request meets first: health of the process, request id, CORS of the Hub, safe headers, the hot path."""

    def __init__(self, api: FastAPI, settings: Settings, public_url: str, tools: mcp_endpoint.Endpoint) -> None:
        self.api = api
        self._tools = tools
        self._settings = settings
        self.public_url = public_url
        self._context: Context | None = None
        self._pages: tuple[Context, AsgiApp] | None = None
        # An application that mounted us speaks for its whole host itself.
        self._https = public_url.startswith("https://") and not urlsplit(public_url).path

    @asynccontextmanager
    async def running(self, *, supervised: bool = False, workers: int | None = None) -> AsyncIterator[Context]:
        """Open the parts of the process and close them again. Refreshes that run are finished first."""
        context = await open_context(self._settings, public_url=self.public_url, supervised=supervised, workers=workers)
        self._context = self.api.state.context = context
        link = await users.announce_set_up(context.db, self.public_url)
        if link is not None:
            notice = f"mooring: nobody is set up yet. Open this link within a day to become the admin:\n{link}"
            print(notice, file=sys.stderr, flush=True)  # noqa: T201 - a person must see it, once
        try:
            yield context
        finally:
            self._context = None
            await self._tools.aclose()
            await close_context(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        context = self._context
        if context is None:
            await send_error(send, errors.Unavailable("this process is starting or stopping"), None)
            return
        try:
            scope = unmounted(scope)
        except errors.NotFound as e:
            await send_error(send, e, None)
            return
        if scope["path"] == _HOT or scope["path"].startswith(f"{_HOT}/"):  # an application mounted us (decision 24)
            await MountedExchange(scope, receive, send).run(self.call)
        else:
            await self._manage(context, scope, receive, send)

    async def call(self, exchange: Exchange) -> None:
        """Serve one request of the hot path."""
        context = self._context
        if context is None:
            refusal = errors.Unavailable("this process is starting or stopping")
            exchange.respond(refusal.status, SAFE_HEADERS, orjson.dumps(refusal.body()))
        else:
            await proxy_handler.handle(context, exchange)

    async def _manage(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        request_id = ids.time_uuid()
        scope["mooring.request_id"] = request_id
        extra = self._extra_headers(scope, path, request_id)
        hub = path.startswith("/hub/")
        if hub and scope["method"] == "OPTIONS":
            extra += await _cors(context, scope)
            await send({"type": "http.response.start", "status": 204, "headers": [*extra, (b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        status = 500
        begun = False
        head = scope["method"] == "HEAD"
        if head:  # RFC 9110 §9.3.2: what GET says, without the body; the listener leaves the body out
            scope = {**scope, "method": "GET"}

        async def reply(message: MutableMapping[str, Any]) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                if hub:
                    extra.extend(await _cors(context, scope))
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in extra if n not in given)]
            await send(message)

        started = time.perf_counter()
        limit = UNIFIED_LIMIT if path == "/unified/proxy" else None
        try:
            _refuse_nul(scope)
            limited = limit_body(receive, limit) if limit else limit_body(receive)
            if limit is None and json_body.is_json(scope):  # the envelope's body is the provider's to judge
                limited = json_body.checked(limited)
            if dashboard_serves(path):
                await self._dashboard(context)(scope, limited, reply)
            elif idempotent.applies(scope):
                await idempotent.serve(context, self.api, scope, limited, reply)
            else:
                await self.api(scope, limited, reply)
        except errors.MooringError as e:
            if begun:
                raise
            await send_error(reply, e, request_id)
        except Exception as e:
            if not scope.get("mooring.answered"):
                error = fault(request_id, e)
                if begun:
                    raise
                await send_error(reply, error, request_id)
        finally:
            caller = scope.get("mooring.caller")
            if caller is not None and not scope.get("mooring.logged") and not path.startswith("/requests/"):
                unified = path.startswith("/unified/")  # refused before its own handler could log it
                entry = Entry(
                    id=request_id,
                    category="unified" if unified else "platform",
                    project_id=caller.project_id,
                    method=scope["method"],
                    path=path,
                    service="proxy" if unified else "platform",
                    resource=None if unified else path.strip("/").partition("/")[0],
                    source_id=caller.key_id,
                    source_ip=scope["client"][0] if scope.get("client") else None,
                )
                duration = (time.perf_counter() - started) * 1000
                context.logs.add(entry.finish(status, duration, error_code=scope.get("mooring.error_code")))

    def _dashboard(self, context: Context) -> AsgiApp:
        """The dashboard, loaded when somebody looks at it first: a hub that nobody looks at stays small."""
        if self._pages is None or self._pages[0] is not context:
            from mooring.dashboard.app import Dashboard

            self._pages = (context, Dashboard(context))
        return self._pages[1]

    def _extra_headers(self, scope: Scope, path: str, request_id: str) -> list[tuple[bytes, bytes]]:
        extra = [*SAFE_HEADERS, DEFAULT_POLICY, (b"x-request-id", request_id.encode())]
        if self._https:
            extra.append((b"strict-transport-security", b"max-age=31536000"))
        return extra

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except errors.ConfigurationError as e:
            await send({"type": "lifespan.startup.failed", "message": str(e)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
