"""`/mcp`: who asks and for which account, before the protocol server sees the request."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from mooring import errors
from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.grants.callers import Holder, Holders
from mooring.grants.oauth_api import CORS, metadata_url, offered, preflight, send_with
from mooring.grants.rules import PATH, PROJECT_PATH, challenge_header, resource_of
from mooring.grants.tokens import ACCESS_PREFIX
from mooring.identity import audit
from mooring.identity.service import Caller
from mooring.kit.web import Json
from mooring.mcp.tools import MODES, STYLES

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_STAND_IN = "mooring: an object"  # for an id that JSON-RPC does not know


class Endpoint:
    """The ASGI application behind `/mcp`. The SDK is loaded when the first agent comes: it is large."""

    def __init__(self) -> None:
        self._managers: dict[bool, StreamableHTTPSessionManager] = {}  # by whether they answer in plain JSON
        self._running: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()
        self._holders: Holders | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Refusals before the protocol are ours: 400, 401, 403, 404, 405, 412."""
        request = Request(scope, receive)
        project = request.path_params.get("project")
        if project is None:
            await self._serve(request, None, send)
            return
        # What end users give to their assistants: any page may call it, as no cookie counts here.
        if request.method == "OPTIONS":
            await preflight(scope, receive, send)
            return
        try:
            await self._serve(request, project, send_with(send, CORS))
        except errors.MooringError as e:
            request.scope["mooring.error_code"] = e.error_code
            body = e.body(request_id=scope.get("mooring.request_id"))
            await Json(body, status_code=e.status, headers={**e.headers, **CORS})(scope, receive, send)

    async def _serve(self, request: Request, project: str | None, send: Send) -> None:
        scope, receive = request.scope, request.receive
        context: Context = request.app.state.context
        caller, holder = await self._caller(context, request, project)
        scope["mooring.logged"] = True  # a row for each tool that is called, not for the envelope
        if request.method == "DELETE":
            await Response(status_code=200)(scope, receive, send)  # there is no session that could end
            return
        if request.method != "POST":
            problem = "this server sends nothing by itself; POST to it"
            raise errors.MethodNotAllowed(problem, headers={"allow": "POST, DELETE"})
        from mooring.mcp.server import ASKED, Asked

        query = request.query_params
        scope[ASKED] = Asked(
            context=context,
            caller=caller,
            accounts=await _accounts(context, request, caller, holder),
            labels=holder.labels if holder is not None else {},
            style=_choice(query.get("param-style"), STYLES, "param-style"),
            mode=_choice(query.get("tool-mode"), MODES, "tool-mode"),
            address=request.client.host if request.client else None,
            traceparent=request.headers.get("traceparent"),
        )
        plain = _takes_no_stream(request.headers.get("accept"))
        if plain:
            kept = [item for item in scope["headers"] if item[0] != b"accept"]
            scope["headers"] = [*kept, (b"accept", b"application/json, text/event-stream")]  # the SDK wants both
            receive, send = await _with_any_id(request, send)
        manager = await self._started(plain)
        await manager.handle_request(scope, receive, send)

    async def _caller(self, context: Context, request: Request, project: str | None) -> tuple[Caller, Holder | None]:
        """An API key's caller, or a grant's. Raises Unauthorized with where to get a grant (RFC 9728 §5.1)."""
        scheme, _, token = (request.headers.get("authorization") or "").partition(" ")
        bearer = scheme.lower() == "bearer"
        if project is None and scheme and not (bearer and token.strip().startswith(ACCESS_PREFIX)):
            try:
                return await _key_caller(context, request), None
            except errors.Unauthorized:
                if not bearer or not await offered(context, None):
                    raise
                raise _challenge(context, None, "invalid_token") from None
        if not await offered(context, project):
            if project is None:
                return await _key_caller(context, request), None
            raise errors.NotFound("no such path")
        if self._holders is None:
            self._holders = Holders(context.db)
            context.changes.register(self._holders.cache)
        resource = resource_of(context.public_url, project)
        holder = await self._holders.find(token.strip(), resource) if bearer else None
        if holder is None:
            raise _challenge(context, project, "invalid_token" if bearer else None)
        address = request.client.host if request.client else None
        audit.act_as(audit.Actor("assistant", holder.caller.key_id, holder.client_name, address))
        return holder.caller, holder

    async def _started(self, plain: bool) -> StreamableHTTPSessionManager:
        async with self._lock:
            if plain not in self._managers:
                self._managers[plain] = await self._start(plain)
            return self._managers[plain]

    async def _start(self, plain: bool) -> StreamableHTTPSessionManager:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from mooring.mcp.server import build

        manager = StreamableHTTPSessionManager(build(), stateless=True, json_response=plain)
        ready = asyncio.Event()

        async def run() -> None:
            async with manager.run():
                ready.set()
                await asyncio.Event().wait()

        self._running.append(asyncio.create_task(run(), name="mcp"))
        await ready.wait()
        return manager

    async def aclose(self) -> None:
        """Stop what serves requests."""
        while self._running:
            task = self._running.pop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._managers.clear()


async def _key_caller(context: Context, request: Request) -> Caller:
    caller: Caller = await context.authenticate(request.headers.get("authorization"))
    address = request.client.host if request.client else None
    caller.require_address(address)
    audit.act_as(audit.Actor("api_key", caller.key_id, None, address))
    caller.require("actions:execute")
    return caller


def _challenge(context: Context, project: str | None, error: str | None) -> errors.Unauthorized:
    header = challenge_header(metadata_url(context.public_url, project), error=error)
    problem = "the access token is unknown or over" if error else "no credential was sent"
    hint = "Assistants get a token by OAuth: the answer's WWW-Authenticate header says where."
    return errors.Unauthorized(problem, hint=hint, headers={"www-authenticate": header})


async def _accounts(context: Context, request: Request, caller: Caller, holder: Holder | None) -> tuple[Serving, ...]:
    """The account that the request names, or all that a grant reaches."""
    query = request.query_params
    named = request.headers.get("x-account-id") or query.get("x-account-id") or query.get("account_id")
    if named:
        caller.require_account(named)
        return (await context.accounts.get(caller.project_id, named),)
    if holder is None:
        raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
    found = []
    for id in holder.accounts:
        with contextlib.suppress(errors.MooringError):  # deleted this moment, or its connector is gone
            found.append(await context.accounts.get(caller.project_id, id))
    return tuple(found)


async def _with_any_id(request: Request, send: Send) -> tuple[Receive, Send]:
    """Let a message have an object as its id, which is all that StackOne's TypeScript client can send.

    JSON-RPC wants a text or a number, and the SDK takes anything else for a notification, which nobody answers.
    """
    body = await request.body()
    id: Any = None
    with contextlib.suppress(orjson.JSONDecodeError):
        message = orjson.loads(body)
        if isinstance(message, dict) and isinstance(message.get("id"), dict):
            id = message["id"]
            body = orjson.dumps({**message, "id": _STAND_IN})
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await request.receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    if id is None:
        return receive, send
    began: list[Message] = []
    parts: list[bytes] = []

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            began.append(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        whole = b"".join(parts)
        with contextlib.suppress(orjson.JSONDecodeError):
            told = orjson.loads(whole)
            if isinstance(told, dict) and told.get("id") == _STAND_IN:
                whole = orjson.dumps({**told, "id": id})
        kept = [item for item in began[0]["headers"] if item[0].lower() != b"content-length"]
        await send({**began[0], "headers": [*kept, (b"content-length", b"%d" % len(whole))]})
        await send({"type": "http.response.body", "body": whole})

    return receive, answer


def _takes_no_stream(accept: str | None) -> bool:
    """Whether a client asks for plain JSON, as StackOne's TypeScript client does, where MCP wants it to take both."""
    if accept is None:
        return True
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return not kinds & {"text/event-stream", "text/*"}


def _choice(given: str | None, known: tuple[str, ...], name: str) -> Any:
    if given is None:
        return known[0]
    if given not in known:
        raise errors.ValidationFailed("Validation failed", errors=[f"{name}: must be one of {', '.join(known)}"])
    return given


def routes(endpoint: Endpoint) -> list[Route]:
    """The routes of the endpoint, for any method: the endpoint itself says which it takes."""
    return [Route(path, endpoint=endpoint) for path in (PATH, PROJECT_PATH + "{project}")]
