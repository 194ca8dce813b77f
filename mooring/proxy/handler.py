"""`ANY /proxy/{path}`: the streaming proxy as a plain ASGI handler in front of the framework."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from mooring import errors
from mooring.accounts.context import Context
from mooring.kit import clock, ids
from mooring.kit.http import HttpFailure
from mooring.kit.web import Receive, Scope, Send, send_error, unexpected
from mooring.logs.writer import Entry
from mooring.protocol.headers import inbound
from mooring.proxy import service
from mooring.proxy.service import Answer, Call

PREFIX = "/proxy"
BUFFER = 256 * 1024  # a body up to this size, and of known length, can be sent again after a 401


async def handle(context: Context, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one proxied call: authenticate, send, stream the answer, and log it whatever happens."""
    started, begun = clock.now(), time.perf_counter()
    request_id = ids.time_uuid()
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    entry = Entry(
        id=request_id,
        category="unified",
        project_id="",
        method=scope["method"],
        path=scope["path"],
        started_at=started,
        service="proxy",
        source_ip=scope["client"][0] if scope.get("client") else None,
    )
    reply = _Reply(send, request_id)
    status, code = 500, None
    try:
        status = await _serve(context, scope, receive, headers, entry, reply)
    except errors.MooringError as e:
        status, code = e.status, e.error_code
        await reply.refuse(e)
    except Exception as e:  # noqa: BLE001 - the last line: a fault of ours is logged and answered
        code = "InternalError"
        await reply.refuse(unexpected(request_id, e))
    finally:
        if entry.project_id:
            duration = (time.perf_counter() - begun) * 1000
            context.logs.add(entry.finish(status, duration, error_code=code or reply.cut))


async def _serve(
    context: Context,
    scope: Scope,
    receive: Receive,
    headers: list[tuple[str, str]],
    entry: Entry,
    reply: _Reply,
) -> int:
    authorization = account_id = length = None
    for name, value in headers:
        if name == "authorization":
            authorization = value
        elif name == "x-account-id":
            account_id = value
        elif name == "content-length":
            length = value
    caller = await context.authenticate(authorization)
    entry.project_id, entry.source_id = caller.project_id, caller.key_id
    method = scope["method"]
    caller.require("unified:read" if method in service.SAFE_METHODS else "unified:write")
    if not account_id:
        raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    ask = Call(
        method=method,
        path=raw_path.decode("latin-1").partition("?")[0][len(PREFIX) :],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=await _body(receive, headers, length),
    )
    answer = await service.call(context, caller.project_id, account_id, ask, entry)
    await reply.stream(answer, head=method == "HEAD")
    return answer.response.status


async def _body(
    receive: Receive, headers: list[tuple[str, str]], length: str | None
) -> bytes | AsyncIterator[bytes] | None:
    """The body: none, bytes when small and of known length, else a stream that the provider's pace drives."""
    if length is not None and length.isdigit():
        size = int(length)
        if size == 0:
            return b""
        if size <= BUFFER:
            parts = bytearray()
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise errors.BadRequest("the connection ended before the body did")
                parts += message.get("body", b"")
                if not message.get("more_body"):
                    return bytes(parts)
    elif not any(name == "transfer-encoding" for name, _ in headers):
        return None
    return _stream(receive)


async def _stream(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller went away")
        if chunk := message.get("body"):
            yield chunk
        if not message.get("more_body"):
            return


class _Reply:
    """The answer to the caller. Once it has begun, a failure can only cut it short."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.begun = False
        self.cut: str | None = None

    async def stream(self, answer: Answer, *, head: bool) -> None:
        """Pass the provider's answer on, masking an echoed credential in headers and body."""
        scanner = answer.scanner
        headers = []
        for name, value in inbound(answer.response.headers):
            raw = value.encode("latin-1", "replace")
            if scanner is not None:
                raw = scanner.mask(raw) + scanner.flush()
            headers.append((name.encode("latin-1"), raw))
        headers.append((b"x-request-id", self._request_id.encode()))
        await self._send({"type": "http.response.start", "status": answer.response.status, "headers": headers})
        self.begun = True
        try:
            if not head:
                async for chunk in answer.response.chunks():
                    data = scanner.mask(chunk) if scanner is not None else chunk
                    if data:
                        await self._send({"type": "http.response.body", "body": data, "more_body": True})
                rest = scanner.flush() if scanner is not None else b""
                await self._send({"type": "http.response.body", "body": rest})
            else:
                await self._send({"type": "http.response.body", "body": b""})
        except HttpFailure as e:
            self.cut = f"cut:{e.kind}"
            # The status has gone out; raising ends the connection, so the caller sees a broken body, not a short one.
            raise
        finally:
            await answer.response.aclose()

    async def refuse(self, error: errors.MooringError) -> None:
        """Answer a refusal, or break the connection when an answer has begun."""
        if self.begun:
            raise ConnectionResetError("the provider's answer ended early") from None
        await send_error(self._send, error, self._request_id)


def matches(path: str) -> bool:
    """Whether a request path is the proxy's."""
    return path.startswith(PREFIX + "/") or path == PREFIX
