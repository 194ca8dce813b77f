"""`/mcp`: who asks and for which account, before the protocol server sees the request."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mooring import errors
from mooring.accounts.context import Context
from mooring.identity import audit
from mooring.identity.service import Caller
from mooring.mcp.tools import MODES, STYLES

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PATH = "/mcp"


class Endpoint:
    """The ASGI application behind `/mcp`. The SDK is loaded when the first agent comes: it is large."""

    def __init__(self) -> None:
        self._manager: StreamableHTTPSessionManager | None = None
        self._running: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Refusals before the protocol are ours: 400, 401, 403, 404, 405, 412."""
        request = Request(scope, receive)
        context: Context = request.app.state.context
        caller = await _caller(context, request)
        scope["mooring.logged"] = True  # a row for each tool that is called, not for the envelope
        if request.method == "DELETE":
            await Response(status_code=204)(scope, receive, send)  # there is no session that could end
            return
        if request.method != "POST":
            problem = "this server sends nothing by itself; POST to it"
            raise errors.MethodNotAllowed(problem, headers={"allow": "POST, DELETE"})
        from mooring.mcp.server import ASKED, Asked

        query = request.query_params
        account = request.headers.get("x-account-id") or query.get("x-account-id") or query.get("account_id")
        if not account:
            raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
        caller.require_account(account)
        scope[ASKED] = Asked(
            context=context,
            caller=caller,
            account=await context.accounts.get(caller.project_id, account),
            style=_choice(query.get("param-style"), STYLES, "param-style"),
            mode=_choice(query.get("tool-mode"), MODES, "tool-mode"),
            address=request.client.host if request.client else None,
            traceparent=request.headers.get("traceparent"),
        )
        manager = await self._started()
        await manager.handle_request(scope, receive, send)

    async def _started(self) -> StreamableHTTPSessionManager:
        async with self._lock:
            if self._manager is None:
                self._manager = await self._start()
            return self._manager

    async def _start(self) -> StreamableHTTPSessionManager:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from mooring.mcp.server import build

        manager = StreamableHTTPSessionManager(build(), stateless=True)
        ready = asyncio.Event()

        async def run() -> None:
            async with manager.run():
                ready.set()
                await asyncio.Event().wait()

        self._running = asyncio.create_task(run(), name="mcp")
        await ready.wait()
        return manager

    async def aclose(self) -> None:
        """Stop what serves requests."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._manager = self._running = None


async def _caller(context: Context, request: Request) -> Caller:
    caller: Caller = await context.authenticate(request.headers.get("authorization"))
    address = request.client.host if request.client else None
    caller.require_address(address)
    audit.act_as(audit.Actor("api_key", caller.key_id, None, address))
    caller.require("actions:execute")
    return caller


def _choice(given: str | None, known: tuple[str, ...], name: str) -> Any:
    if given is None:
        return known[0]
    if given not in known:
        raise errors.ValidationFailed("Validation failed", errors=[f"{name}: must be one of {', '.join(known)}"])
    return given


def route(endpoint: Endpoint) -> Route:
    """The route of the endpoint, for any method: the endpoint itself says which it takes."""
    return Route(PATH, endpoint=endpoint)
