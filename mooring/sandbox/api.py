"""The sandbox's API: an HRIS with paging, and endpoints to watch traffic with."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooring.sandbox.access import ApiError, Caller, authenticate, require
from mooring.sandbox.data import COMPANIES, Employee, employee_id
from mooring.sandbox.faults import run_with_fault
from mooring.sandbox.state import MAX_MS, RateLimit, State, take_fault
from mooring.sandbox.wire import BodyTooLargeError, error_response, json_response, read_body

MAX_JSON_BYTES = 1_048_576
MAX_BYTES = 10**10
_SHOWN_LIMIT = RateLimit(1000, 60)  # what the headers say while no limit is set
_REQUIRED = ("first_name", "last_name", "email")
_WRITABLE = (*_REQUIRED, "department", "job_title", "start_date", "status")
_BLOCK = hashlib.shake_256(b"mooring sandbox").digest(65_536)
_BODYLESS = (204, 205, 304)


class ApiEndpoint:
    """Everything under `/api`: counts, delays, faults, then authentication and headers."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.router: ASGIApp = Router(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.state.counters.api_calls += 1
        if delay := self.state.settings.api_delay_ms:
            await asyncio.sleep(delay / 1000)
        fault = take_fault(self.state, "api")
        if fault is None:
            await self._guard(scope, receive, send)
        else:
            await run_with_fault(fault, self.state, self._guard, scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = authenticate(self.state, Request(scope))
            shown = _count_call(self.state, caller)
        except ApiError as refused:
            self.state.counters.api_401s += refused.status == 401
            self.state.counters.api_429s += refused.status == 429
            await render_error(self.state, refused)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in shown.items():
                    headers[name] = value
                headers.append("link", f'<{self.state.issuer}/>; rel="service-doc"')
                headers.append("set-cookie", f"sandbox_session={caller.company}; Path=/; HttpOnly; SameSite=Lax")
            await send(message)

        await self.router({**scope, "caller": caller}, receive, send_with_headers)


def _count_call(state: State, caller: Caller) -> dict[str, str]:
    """Count the call in its company's window; return the X-RateLimit headers. Raise 429."""
    rule, now = state.settings.rate_limit or _SHOWN_LIMIT, time.monotonic()
    started, count = state.rate_windows.get(caller.company, (now, 0))
    if now - started >= rule.window_seconds:
        started, count = now, 0
    state.rate_windows[caller.company] = (started, count + 1)
    seconds = str(max(1, int(rule.window_seconds - (now - started) + 0.999)))
    headers = {
        "x-ratelimit-limit": str(rule.limit),
        "x-ratelimit-remaining": str(max(0, rule.limit - count - 1)),
        "x-ratelimit-reset": seconds,
    }
    if state.settings.rate_limit and count >= rule.limit:
        late = {**headers, "retry-after": seconds}
        raise ApiError(429, "rate_limited", f"Over {rule.limit} calls in the window.", headers=late)
    return headers


def render_error(state: State, error: ApiError) -> Response:
    """Render a refusal, as 200 when the switch says so."""
    return error_response(
        status=error.status,
        code=error.code,
        message=error.message,
        as_200=state.settings.error_200,
        headers=error.headers,
        extra=error.extra,
    )


def _state(request: Request) -> State:
    state: State = request.app.state.sandbox
    return state


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    return caller


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, request.path_params.get(name, str(default)))
    if text.isascii() and text.isdigit() and len(text) < 16 and low <= int(text) <= high:
        return int(text)
    raise ApiError(400, "bad_parameter", f"{name} must be a whole number from {low} to {high}.")


def _tagged(request: Request, content: object, headers: dict[str, str] | None = None) -> Response:
    """Render JSON with an ETag, or 304 where the client has it."""
    response = json_response(content, headers=headers)
    response.headers["etag"] = tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": tag})
    return response


async def me(request: Request) -> Response:
    """Who the credential belongs to."""
    caller = _caller(request)
    company = COMPANIES[caller.company]
    return _tagged(
        request,
        {
            "account_id": company.account_id,
            "company": company.name,
            "auth_method": caller.auth_method,
            "scopes": list(caller.scopes),
        },
    )


def _employees(request: Request, scope: str) -> dict[str, Employee]:
    require(_caller(request), scope)
    return _state(request).employees[_caller(request).company]


async def list_employees(request: Request) -> Response:
    """One page of people."""
    everyone = list(_employees(request, "employees:read").values())
    page, size = _number(request, "page", 1, 1, 10**6), _number(request, "page_size", 20, 1, 100)
    last = max(1, -(-len(everyone) // size))
    body = {
        "employees": everyone[(page - 1) * size : page * size],
        "page": page,
        "page_size": size,
        "total": len(everyone),
        "next_page": page + 1 if page < last else None,
    }
    targets = {
        "first": 1,
        "prev": page - 1 if 1 < page <= last else None,
        "next": body["next_page"],
        "last": last,
    }
    links = [
        f'<{_state(request).issuer}/api/employees?{urlencode({"page": to, "page_size": size})}>; rel="{rel}"'
        for rel, to in targets.items()
        if to is not None
    ]
    return _tagged(request, body, {"link": ", ".join(links)})


def _one(request: Request, scope: str) -> Employee:
    found = _employees(request, scope).get(request.path_params["id"])
    if found is None:
        raise ApiError(404, "not_found", "There is no such employee.")
    return found


async def get_employee(request: Request) -> Response:
    return _tagged(request, _one(request, "employees:read"))


async def _read_fields(request: Request) -> Employee:
    try:
        body = orjson.loads(await read_body(request.receive, MAX_JSON_BYTES))
    except BodyTooLargeError:
        raise ApiError(413, "too_large", f"The body is over {MAX_JSON_BYTES} bytes.") from None
    except orjson.JSONDecodeError:
        raise ApiError(400, "bad_json", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ApiError(422, "invalid", "The body must be a JSON object.")
    wrong = [name for name, value in body.items() if name not in _WRITABLE or not isinstance(value, str)]
    if wrong:
        raise ApiError(422, "invalid", f"Unknown or not text: {', '.join(wrong)}.", extra={"fields": wrong})
    return body


async def create_employee(request: Request) -> Response:
    """Add a person."""
    everyone = _employees(request, "employees:write")
    given = await _read_fields(request)
    if missing := [name for name in _REQUIRED if not given.get(name)]:
        raise ApiError(422, "invalid", f"Missing: {', '.join(missing)}.", extra={"fields": missing})
    state, company = _state(request), COMPANIES[_caller(request).company]
    state.next_employee[company.key] += 1
    key = employee_id(company, 900 + state.next_employee[company.key])  # never an id that was used before
    defaults = {"department": None, "job_title": None, "start_date": None, "status": "active"}
    everyone[key] = {"id": key, **{name: given.get(name, defaults.get(name)) for name in _WRITABLE}}
    return json_response(everyone[key], 201, {"location": f"{state.issuer}/api/employees/{key}"})


async def update_employee(request: Request) -> Response:
    """Change a person."""
    found = _one(request, "employees:write")
    found.update(await _read_fields(request))
    return json_response(found)


async def delete_employee(request: Request) -> Response:
    """Remove a person."""
    found = _one(request, "employees:write")
    del _employees(request, "employees:write")[found["id"]]
    return Response(status_code=204)


class Echo:
    """Tell any request back; the body is hashed as it comes and never held."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, digest, size = Request(scope, receive), hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        response = json_response(
            {
                "method": request.method,
                "path": scope["path"],
                "query": scope["query_string"].decode("latin-1"),
                "headers": headers,
                "body": {"sha256": digest.hexdigest(), "size": size},
            }
        )
        await response(scope, receive, send)


async def some_bytes(request: Request) -> Response:
    """A body of the size that was asked for."""
    count = _number(request, "n", 0, 0, MAX_BYTES)

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, count, len(_BLOCK)):
            yield _BLOCK[: count - start]

    headers = {"content-length": str(count), "etag": f'"bytes-{count}"'}
    return StreamingResponse(blocks(), headers=headers, media_type="application/octet-stream")


async def slow(request: Request) -> Response:
    """Answer after a pause."""
    ms = _number(request, "ms", 1000, 0, MAX_MS)
    await asyncio.sleep(ms / 1000)
    return json_response({"slept_ms": ms})


async def events(request: Request) -> Response:
    """Server-sent events, one by one."""
    count, interval = _number(request, "count", 3, 1, 10_000), _number(request, "interval", 200, 0, 60_000)

    async def stream() -> AsyncIterator[str]:
        for number in range(1, count + 1):
            yield f'id: {number}\nevent: tick\ndata: {{"number": {number}}}\n\n'
            if number < count:
                await asyncio.sleep(interval / 1000)

    return StreamingResponse(stream(), headers={"cache-control": "no-store"}, media_type="text/event-stream")


async def status(request: Request) -> Response:
    """Answer with the status that was asked for."""
    code = _number(request, "code", 200, 200, 599)
    if code in _BODYLESS:
        return Response(status_code=code)
    headers = {"location": f"{_state(request).issuer}/redirected"} if code in (301, 302, 303, 307, 308) else {}
    return json_response({"status": code}, code, headers)


ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

ROUTES = [
    Route("/me", me),
    Route("/employees", list_employees),
    Route("/employees", create_employee, methods=["POST"]),
    Route("/employees/{id}", get_employee),
    Route("/employees/{id}", update_employee, methods=["PATCH"]),
    Route("/employees/{id}", delete_employee, methods=["DELETE"]),
    Route("/echo", Echo()),
    Route("/echo/{rest:path}", Echo()),
    Route("/bytes/{n}", some_bytes),
    Route("/slow", slow),
    Route("/sse", events),
    Route("/status/{code}", status, methods=ANY_METHOD),
]
