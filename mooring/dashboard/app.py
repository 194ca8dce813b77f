"""The dashboard as an ASGI application: who looks, whether they may, the page, and the browser's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route as WebRoute
from starlette.routing import Router

from mooring import errors
from mooring.accounts.context import Context
from mooring.dashboard import locale
from mooring.dashboard.prefix import below
from mooring.dashboard.render import STATIC, show_refusal
from mooring.dashboard.routing import ROUTES, Route
from mooring.dashboard.view import View
from mooring.identity import audit, projects, sessions
from mooring.kit.server import Receive, Scope, Send
from mooring.kit.web import fault, unstorable

PAGES: Final = (
    "sign_in", "profile", "home", "availability", "connectors", "accounts", "approvals", "assistants", "link", "tester",
    "logs", "api_keys", "webhooks", "events", "settings", "members", "audit_log", "system", "search",
)  # fmt: skip
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def load_routes() -> list[Route]:
    """Import every page; returns the whole table."""
    for name in PAGES:
        import_module(f"mooring.dashboard.pages.{name}")
    return ROUTES


def cookie_name(context: Context) -> str:
    """`__Host-` needs https; a developer's machine does without."""
    return "__Host-mooring-session" if context.public_url.startswith("https://") else "mooring-session"


class Dashboard:
    """All pages of one process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        routes = [WebRoute(r.path, self._endpoint(r), methods=[r.method]) for r in load_routes()]
        routes.append(WebRoute("/dashboard/static/{name}", _static, methods=["GET"]))
        self._router = Router(routes, redirect_slashes=False, default=self._nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["router"] = self._router
        prefix = self._context.prefix
        await self._router(scope, receive, below(prefix, send) if prefix else send)

    async def _nothing(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        view = View(request, self._context, language=_language(request, None))
        await show_refusal(view, errors.NotFound("there is no such page"))(scope, receive, send)

    def _endpoint(self, route: Route) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            view = View(request, self._context, language=_language(request, None))
            try:
                return await self._serve(view, route)
            except errors.MooringError as e:
                return show_refusal(view, e)
            except Exception as e:  # noqa: BLE001 - every fault of ours ends in a page that says so
                return show_refusal(view, unstorable(e) or fault(request.scope.get("mooring.request_id"), e))

        return endpoint

    async def _serve(self, view: View, route: Route) -> Response:
        if route.method != "GET":
            require_same_origin(view.request, self._context.own_origin)
        away = await self._admit(view, route)
        if away is not None:
            return away
        if view.signed_in is not None:
            audit.act_as(replace(view.signed_in.actor, address=view.address))
            if route.confirmed and not view.signed_in.is_confirmed:
                url = f"/dashboard/confirm?next={_back(view)}"
                if view.request.headers.get("hx-request") == "true":
                    return Response(status_code=403, headers={"hx-redirect": url})
                return RedirectResponse(url, status_code=303)
        return await route.handler(view)

    async def _admit(self, view: View, route: Route) -> Response | None:
        """Find out who looks, and refuse whom the route is not for. All is read now: a role that was taken ends now."""
        token = view.request.cookies.get(cookie_name(self._context))
        async with self._context.db.read() as tx:
            view.signed_in = await sessions.find(tx, token) if token else None
            if view.signed_in is not None:
                view.language = _language(view.request, view.signed_in.user.language)
            if route.need == "public":
                return None
            if view.signed_in is None:
                return _to_sign_in(view)
            view.projects = list(await projects.visible(tx, view.signed_in.rights))
            if route.in_project:
                view.place, view.organization = projects.admit(
                    view.projects,
                    view.signed_in.rights,
                    route.need,
                    view.path("project"),
                    deleted=route.path == "/dashboard/p/{project}/restore",
                )
            elif route.need == "owner" and not view.signed_in.rights.owns_any:
                raise errors.Forbidden("this page is for admins of the organization")
        if sessions.is_due(view.signed_in.session):
            async with self._context.db.begin() as tx:
                await sessions.seen(tx, view.signed_in.session.id)
        return None


def require_same_origin(request: Request, own_origin: str) -> None:
    """Refuse a change that another site may have caused (rule W7): our header, and what the browser says of its source."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if request.headers.get("hx-request") != "true":
        fault = "it lacks the header that this dashboard's pages send"
    elif site not in {None, "same-origin"}:
        fault = "another site caused it"
    elif origin is None and site is None:
        fault = "it does not say where it comes from"
    elif origin is not None and not _is_ours(origin, own_origin):
        fault = f"it comes from {origin[:100]}, and this hub is {own_origin}"
    else:
        return
    raise errors.Forbidden(
        f"the request was refused: {fault}",
        code="CrossSiteRequestError",
        hint="Open the dashboard at the address in MOORING_PUBLIC_URL.",
    )


def _is_ours(origin: str, own_origin: str) -> bool:
    if origin.lower() == own_origin.lower():
        return True
    try:
        a, b = urlsplit(origin), urlsplit(own_origin)
        same = (a.scheme, a.port) == (b.scheme, b.port)
    except ValueError:
        return False
    return same and a.hostname in _LOOPBACK and b.hostname in _LOOPBACK


def _language(request: Request, chosen: str | None) -> str:
    return locale.negotiate(chosen, request.headers.get("accept-language", "")[:200])


def _back(view: View) -> str:
    """The page to come back to: the one that the browser shows when htmx asked."""
    shown = urlsplit(view.request.headers.get("hx-current-url", ""))
    path = shown.path.removeprefix(view.context.prefix)  # a mounted hub's own paths begin after the prefix
    path = path if path.startswith("/dashboard") else view.request.url.path
    query = shown.query if shown.path else view.request.url.query
    return quote(path + (f"?{query}" if query else ""), safe="")


def _to_sign_in(view: View) -> Response:
    url = f"/dashboard/sign-in?next={_back(view)}"
    if view.request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"hx-redirect": url})
    return RedirectResponse(url, status_code=303)


@lru_cache(maxsize=1)
def _static_names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir() if path.suffix[1:] in _KINDS)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _static_names():
        return Response("there is no such file", status_code=404)
    headers = {"cache-control": "public, max-age=31536000, immutable", "cross-origin-resource-policy": "same-origin"}
    return FileResponse(STATIC / name, media_type=_KINDS[name.rpartition(".")[2]], headers=headers)
