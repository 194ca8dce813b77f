"""`ANY /proxy/{path}`: the streaming proxy as a plain ASGI handler in front of the framework."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from mooring import errors
from mooring.accounts.context import Context
from mooring.kit import clock, ids
from mooring.kit.http import HttpFailure
from mooring.kit.web import DEFAULT_POLICY, NO_SNIFF, Receive, Scope, Send, send_error, unexpected
from mooring.logs.writer import Entry
from mooring.protocol.headers import inbound
from mooring.proxy import service
from mooring.proxy.service import Answer, Call

PREFIX = "/proxy"
BUFFER = 256 * 1024  # a body up to this size, and of known length, can be sent again after a 401
WATCH_AFTER = 0.1  # seconds; a call that takes longer is watched for a caller that goes away
CALLER_GONE = 499  # in the log only: nobody is left to be answered


async def handle(context: Context, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one proxied call: authenticate, send, stream the answer, and log it whatever happens."""
    started, begun = clock.now(), time.perf_counter()
    request_id = ids.time_uuid()
    headers = _decoded(scope["headers"])
    entry = Entry(
        id=request_id,
        category="unified",
        project_id="",
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        started_at=started,
        service="proxy",
        source_ip=scope["client"][0] if scope.get("client") else None,
    )
    reply = _Reply(send, request_id)
    caller = _Caller(receive)
    status, code = 500, None
    try:
        status = await _serve(context, scope, caller, headers, entry, reply)
    except errors.MooringError as e:
        status, code = reply.status or e.status, e.error_code
        await reply.refuse(e)
    except HttpFailure:
        status, code = reply.status or 502, "ProviderCutError"
        # The status has gone out; only a broken connection tells the caller that the body is not whole.
        raise ConnectionResetError("the provider's answer ended early") from None
    except asyncio.CancelledError:
        if not caller.gone:
            raise
        status, code = reply.status or CALLER_GONE, "CallerGoneError"
    except Exception as e:  # noqa: BLE001 - the last line: a fault of ours is logged and answered
        if caller.gone:
            status, code = reply.status or CALLER_GONE, "CallerGoneError"
        else:
            status, code = reply.status or 500, "InternalError"
            await reply.refuse(unexpected(request_id, e))
    finally:
        caller.release()
        if entry.project_id:
            duration = (time.perf_counter() - begun) * 1000
            context.logs.add(entry.finish(status, duration, error_code=code))


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    # What goes out is encoded as UTF-8, so a value keeps its bytes; one in another encoding is taken for Latin-1.
    try:
        return [(name.decode(), value.decode()) for name, value in headers]
    except UnicodeDecodeError:
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


async def _serve(
    context: Context,
    scope: Scope,
    caller: _Caller,
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
    identity = await context.authenticate(authorization)
    entry.project_id, entry.source_id = identity.project_id, identity.key_id
    identity.require_address(entry.source_ip)
    method = scope["method"]
    identity.require("unified:read" if method in service.SAFE_METHODS else "unified:write")
    if not account_id:
        raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
    ask = Call(
        method=method,
        path=entry.path[len(PREFIX) :],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=await caller.body(headers, length),
    )
    caller.watch()
    answer = await service.call(context, identity.project_id, account_id, ask, entry)
    await reply.stream(answer, caller, head=method == "HEAD")
    return answer.response.status


class _Caller:
    """The caller's side of the connection: its body, and whether it is still there.

    The server tells of a caller that went away only to who receives; sending raises nothing. So a call that takes its
    time is watched, and cancelled: nothing more is read from the provider.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._uploading = False
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    async def body(self, headers: list[tuple[str, str]], length: str | None) -> bytes | AsyncIterator[bytes] | None:
        """The body: none, bytes when small and of known length, else a stream that the provider's pace drives."""
        if length is not None and length.isdigit():
            size = int(length)
            if size == 0:
                return b""
            if size <= BUFFER:
                parts = bytearray()
                async for chunk in self._chunks():
                    parts += chunk
                return bytes(parts)
        elif not any(name == "transfer-encoding" for name, _ in headers):
            return None
        self._uploading = True
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ConnectionResetError("the caller went away")
            if chunk := message.get("body"):
                yield chunk
            if not message.get("more_body"):
                self._uploading = False
                return

    def watch(self) -> None:
        """Cancel the current task when the caller goes away. Costs a timer, until `WATCH_AFTER` has passed."""
        loop = asyncio.get_running_loop()
        self._task = self._task or asyncio.current_task()
        self._timer = loop.call_later(WATCH_AFTER, self._start)

    def _start(self) -> None:
        if self._uploading:  # the upload receives, and notices by itself
            self.watch()
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()

    def release(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()


class _Reply:
    """The answer to the caller. Once it has begun, a failure can only cut it short."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0  # the provider's, once it has gone out

    async def stream(self, answer: Answer, caller: _Caller, *, head: bool) -> None:
        """Pass the provider's answer on, masking an echoed credential in headers and body. Raises HttpFailure."""
        scanner = answer.scanner
        try:
            headers = [NO_SNIFF, DEFAULT_POLICY, (b"x-request-id", self._request_id.encode())]
            for name, value in inbound(answer.response.headers):
                raw = value.encode("latin-1", "replace")
                headers.append((b"x-provider-request-id" if name == "x-request-id" else name.encode("latin-1"), raw))
            # One look at all of them: an echo is rare.
            if scanner is not None and scanner.finds(b"\n".join([value for _, value in headers])):
                headers = [(name, scanner.mask(value) + scanner.flush()) for name, value in headers]
            start = {"type": "http.response.start", "status": answer.response.status, "headers": headers}
            if answer.response.small and not head:
                await self._send_small(start, answer)
                return
            await self._send(start)
            self.status = answer.response.status
            if not head:
                async for chunk in answer.response.chunks():
                    data = scanner.mask(chunk) if scanner is not None else chunk
                    if data:
                        await self._send({"type": "http.response.body", "body": data, "more_body": True})
                    if caller.gone:  # a cancellation is lost when what it interrupts ends in the same moment
                        raise ConnectionResetError("the caller went away")
            rest = scanner.flush() if scanner is not None else b""
            await self._send({"type": "http.response.body", "body": rest})
        finally:
            await answer.response.aclose()

    async def _send_small(self, start: dict[str, Any], answer: Answer) -> None:
        """Send a short body of known length in one piece. The status waits for it: a body cut short becomes a refusal."""
        try:
            data = await answer.response.whole()
        except HttpFailure as e:
            raise service.refusal(answer.connector_title, e) from None
        if answer.scanner is not None and answer.scanner.finds(data):
            data = answer.scanner.mask(data) + answer.scanner.flush()
        await self._send(start)
        self.status = start["status"]
        await self._send({"type": "http.response.body", "body": data})

    async def refuse(self, error: errors.MooringError) -> None:
        """Answer a refusal, or break the connection when an answer has begun."""
        if self.status:
            raise ConnectionResetError("the answer ended early") from None
        await send_error(self._send, error, self._request_id)


def matches(scope: Scope) -> bool:
    """Whether a request is the proxy's. Judged on the raw path: what follows the prefix goes out as it came."""
    path: bytes = scope["raw_path"]
    return path.startswith(b"/proxy/") or path == b"/proxy"
