"""Builds the sandbox's ASGI app."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from mooring.sandbox import control, oauth, pages
from mooring.sandbox.access import ApiError
from mooring.sandbox.api import ApiEndpoint, render_error
from mooring.sandbox.state import State
from mooring.sandbox.wire import json_response


def build_app(*, issuer: str) -> ASGIApp:
    """Build one sandbox with its own memory. `issuer` is its base URL, without a trailing slash."""
    state = State(issuer)
    token = Router([Route("/oauth/token", oauth.token, methods=["POST"])])
    app = Starlette(
        routes=[
            Route("/", _home),
            Route("/healthz", _healthz),
            Route("/redirected", _redirected, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route("/.well-known/oauth-authorization-server", oauth.metadata),
            Route("/oauth/authorize", oauth.authorize, methods=["GET", "POST"]),
            Route("/oauth/token", oauth.TokenEndpoint(state, token), methods=["POST"]),
            Route("/oauth/revoke", oauth.revoke, methods=["POST"]),
            Mount("/api", ApiEndpoint(state)),
            Mount("/_control", routes=control.ROUTES),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
    )
    app.state.sandbox = state
    return app


async def _home(request: Request) -> Response:
    return pages.home(request.app.state.sandbox.issuer)


async def _healthz(request: Request) -> Response:
    return json_response({"status": "ok"})


async def _redirected(request: Request) -> Response:
    """Count clients that follow a redirect they should not have followed."""
    request.app.state.sandbox.counters.redirects_followed += 1
    return json_response({"redirected": True})


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return render_error(request.app.state.sandbox, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
    refusal = ApiError(error.status_code, code, error.detail, headers=error.headers)
    return render_error(request.app.state.sandbox, refusal)
