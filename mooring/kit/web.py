"""What every HTTP answer of ours has in common: the error body, safe headers, a request id, a body limit."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match

from mooring import errors
from mooring.kit.db import is_away
from mooring.kit.server import SAFE_HEADERS, Receive, Send

log = structlog.get_logger(__name__)

BODY_LIMIT = 1 << 20  # of the management API (rule A5)

_BY_STATUS: dict[int, type[errors.MooringError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    422: errors.Unprocessable,
    429: errors.RateLimited,
    503: errors.Unavailable,
}


class Json(Response):
    """A JSON answer through orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialise the content."""
        return orjson.dumps(content)


def error_response(request_id: str | None, error: errors.MooringError) -> Response:
    """The JSON answer for a refusal (contract §1)."""
    return Json(error.body(request_id=request_id), status_code=error.status, headers=error.headers)


def page(title: str, body: str, *, status: int = 200, script: str | None = None, language: str = "en") -> Response:
    """A small self-contained page with a strict policy. `body` must be escaped already."""
    nonce = secrets.token_urlsafe(16)
    code = f'<script nonce="{nonce}">{script}</script>' if script else ""
    document = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style nonce="{nonce}">{_STYLE}</style></head>'
        f"<body><main>{body}</main>{code}</body></html>"
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(document, status_code=status, headers={"content-security-policy": policy})


_STYLE = (
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--fg:#1b2430;--line:#d9dee5}"
    "@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b2129;--fg:#e8ecf1;--line:#323b47}}"
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif}main{max-width:30rem;margin:1rem;padding:2rem;background:var(--card);"
    "border:1px solid var(--line);border-radius:12px}h1{font-size:1.25rem;margin:0 0 .75rem}p{margin:.5rem 0}"
    ".go{display:inline-block;margin-top:.5rem;padding:.6rem 1rem;border-radius:8px;background:#1d5fd0;color:#fff;"
    "font-weight:600;text-decoration:none}.go:focus-visible{outline:3px solid;outline-offset:2px}"
)


def install_error_handlers(app: FastAPI, page_of: Callable[[Request, errors.MooringError], Response]) -> None:
    """Render every refusal, framework-made ones included, in the one shape; as `page_of` where a person reads it."""

    def _render(request: Request, error: errors.MooringError) -> Response:
        request.scope["mooring.error_code"] = error.error_code
        is_page = request.url.path.startswith(("/connect/", "/embedded/"))
        if is_page and "text/html" in request.headers.get("accept", ""):
            return page_of(request, error)
        return error_response(request.scope.get("mooring.request_id"), error)

    @app.exception_handler(errors.MooringError)
    async def _ours(request: Request, error: errors.MooringError) -> Response:
        return _render(request, error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        hint = None
        if any(fault["loc"] == ("body",) for fault in error.errors()) and "json" not in kind:
            hint = "Send the body as JSON, with Content-Type: application/json."
        return _render(request, errors.ValidationFailed("Validation failed", errors=_faults(error), hint=hint))

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, errors.MooringError):  # the framework wraps what reading the body raised
            return _render(request, error.__cause__)
        kind = _BY_STATUS.get(error.status_code)
        headers = dict(error.headers or {})
        if kind is None:
            refusal: errors.MooringError = errors.BadRequest(str(error.detail), headers=headers)
        elif error.status_code == 404:
            refusal = errors.NotFound(f"no such path: {request.method} {request.url.path[:200]}")
        elif error.status_code == 405:
            refusal = errors.MethodNotAllowed(
                f"{request.method} is not possible on {request.url.path[:200]}", headers={"allow": _allowed(request)}
            )
        else:
            refusal = kind(str(error.detail), headers=headers)
        return _render(request, refusal)

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        request.scope["mooring.answered"] = True  # the framework raises the error again after this answer
        return _render(request, unstorable(error) or fault(request.scope.get("mooring.request_id"), error))


def _allowed(request: Request) -> str:
    """All methods of the path. The framework names only those of the first of its routes, one per method."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(filter(takes, ("DELETE", "GET", "PATCH", "POST", "PUT")))


def _faults(error: RequestValidationError) -> list[str]:
    """One line per fault, with the place but without the value: it may be a secret."""
    out = []
    for fault in error.errors()[:50]:
        place = ".".join(str(part) for part in fault["loc"] if part != "body")
        message = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "json_invalid":  # its place is the character
            place, message = "", f"the body is not JSON (character {fault['loc'][-1]})"
        out.append(f"{place}: {message}" if place else message)
    return out


def fault(request_id: str | None, error: BaseException) -> errors.MooringError:
    """The refusal for an exception that nobody expected: 503 when the database is away, else our own fault."""
    if isinstance(error, Exception) and is_away(error):
        # A driver's error is the database's; any other one of the system may have another place, which the log tells.
        place = error if isinstance(error, OSError) else None
        log.warning("the database does not answer", request_id=request_id, error=type(error).__name__, exc_info=place)
        return errors.Unavailable("the database does not answer", headers={"retry-after": "2"})
    return unexpected(request_id, error)


def unexpected(request_id: str | None, error: BaseException) -> errors.Internal:
    """Log a fault of our own under its request id, and make the refusal that tells nothing about the inside."""
    log.error("unexpected error", request_id=request_id, error=type(error).__name__, exc_info=error)
    return errors.Internal("something went wrong inside the hub; the operator finds it in the log by the request id")


def unstorable(error: BaseException) -> errors.BadRequest | None:
    """The refusal for a value that no row can hold or match (NUL, half a surrogate pair, a huge number), else None."""
    if isinstance(error, DBAPIError):
        bad = isinstance(error, DataError) or str(getattr(error.orig, "sqlstate", "")).startswith("22")
    else:
        bad = isinstance(error, UnicodeEncodeError | OverflowError)
    if bad:
        return errors.BadRequest("a value has characters that cannot be stored, or a number is out of range")
    return None


DEFAULT_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


async def send_error(send: Send, error: errors.MooringError, request_id: str | None) -> None:
    """Answer a refusal from plain ASGI code."""
    body = orjson.dumps(error.body(request_id=request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *SAFE_HEADERS,
        DEFAULT_POLICY,
        *([(b"x-request-id", request_id.encode())] if request_id else ()),
        *((k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in error.headers.items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def limit_body(receive: Receive, limit: int = BODY_LIMIT) -> Receive:
    """A `receive` that raises PayloadTooLarge once a body passes the limit."""
    seen = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise errors.PayloadTooLarge(f"the body is larger than {limit} bytes")
        return message

    return limited
