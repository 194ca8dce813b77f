"""Serve inside another application: its prefix taken off, and the hot path's `Exchange` over ASGI."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, cast

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from mooring import errors
from mooring.kit.exchange import Exchange, Header, HotHandler
from mooring.kit.server import EdgeProtocol, Receive, Scope, Send

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class AnswerCutError(ConnectionError):
    """An answer that had begun could not be completed: the server must break the connection (or the stream)."""


def unmounted(scope: Scope) -> Scope:
    """The request as if we were at the root: path and raw path without the prefix that an application mounted us under.

    Raises NotFound when the raw path spells the prefix in another way than the application was told.
    """
    prefix: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    if not prefix or (path != prefix and not path.startswith(prefix + "/")):
        return scope if not prefix else {**scope, "root_path": ""}  # a server that has taken it off already
    inner = {**scope, "path": path[len(prefix) :] or "/", "root_path": "", "app_root_path": ""}
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        spelled = prefix.encode()
        if raw != spelled and not raw.startswith(spelled + b"/"):
            raise errors.NotFound("no such path: the application's prefix is spelled in another way")
        inner["raw_path"] = raw[len(spelled) :] or b"/"
    return inner


class MountedExchange(Exchange):
    """One request of the hot path that comes over ASGI, and its answer."""

    __slots__ = ("_answer", "_outgoing", "_receive", "_room", "_sender", "_was_cut")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._room = asyncio.Event()
        self._room.set()
        connection = (
            SimpleNamespace(  # what stands in for the connection that the hot path writes to in `mooring serve`
                client=scope.get("client"),
                transport=SimpleNamespace(close=lambda: None),
                flow=SimpleNamespace(pause_reading=self._room.clear, resume_reading=self._room.set),
                loop=asyncio.get_running_loop(),
            )
        )
        headers: list[Header] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        method: str = scope["method"]
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)
        if not framed and method in _WITH_BODY and scope.get("http_version", "1.1") >= "2":
            headers.append((b"transfer-encoding", b"chunked"))  # newer versions need neither to carry a body
        target = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        super().__init__(
            cast("EdgeProtocol", connection),
            method,
            target,
            headers,
            keep_alive=True,
            http_1_0=False,
            expects_continue=False,
        )
        self._receive = receive
        self._answer = send
        self._outgoing: deque[MutableMapping[str, Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._was_cut = False

    @property
    def default_headers(self) -> Sequence[Header]:
        """The server that serves the application sets the date."""
        return ()

    async def run(self, handler: HotHandler) -> None:
        """Serve it. Raises AnswerCutError when the answer is not whole."""
        # A task of its own: when the caller goes away it is cancelled, and not what the application runs around us.
        self.task = asyncio.create_task(_awaited(handler, self))
        reader = asyncio.create_task(self._read_on())
        try:
            await asyncio.wait([self.task])
        except asyncio.CancelledError:
            self.task.cancel()
            await asyncio.wait([self.task])
            raise
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if not self.task.cancelled():
            self.task.result()
        if self.disconnected:
            return
        if self._was_cut or not self.response_complete:
            if self._sender is not None:
                self._sender.cancel()
            raise AnswerCutError("the answer was cut off")
        await self._drain()

    async def _read_on(self) -> None:
        """Take the body as it comes, as fast as it is read; afterwards wait for the caller to leave."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone()
                return
            if self.more_body:
                if body := message.get("body"):
                    self.feed(body)
                if not message.get("more_body"):
                    self.feed_end()
            if len(self.body) > HIGH_WATER_LIMIT and not self.response_complete:
                await self._room.wait()

    # --- the answer

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole answer. Framing headers are ours."""
        if status >= 200 and status not in {204, 304}:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
            self.sent = len(body) if self.method != "HEAD" else 0
        else:
            body = b""
        self._begin(status, headers)
        self._put({"type": "http.response.body", "body": body})
        self.response_complete = True

    def begin(self, status: int, headers: Sequence[Header], *, length: int | None, has_body: bool) -> None:
        """Send the head of an answer whose body follows by `send`, then `end`."""
        if length is not None and (has_body or self.method == "HEAD"):
            headers = [*headers, (b"content-length", b"%d" % length)]
        self._length_left = (length if has_body else 0) if length is not None else None
        self._begin(status, headers)

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the caller reads slowly."""
        if not data or self.disconnected:
            return
        if self._length_left is not None:
            self._length_left -= len(data)
            if self._length_left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        self.sent += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        await self._drain()

    def end(self) -> None:
        """The answer is complete."""
        if self.disconnected:
            return
        if self._length_left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        self._put({"type": "http.response.body", "body": b""})
        self.response_complete = True

    def cut(self) -> None:
        """Break the connection: only that tells a caller that a body is not whole."""
        self.response_complete = True
        self._was_cut = True

    def _begin(self, status: int, headers: Sequence[Header]) -> None:
        self.status = status
        self._put({"type": "http.response.start", "status": status, "headers": list(headers)})

    def _put(self, message: MutableMapping[str, Any]) -> None:
        self._outgoing.append(message)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_on())

    async def _send_on(self) -> None:
        while self._outgoing:
            try:
                await self._answer(self._outgoing.popleft())
            except OSError:  # the server says that the caller is gone
                self._outgoing.clear()
                self.gone()

    async def _drain(self) -> None:
        if self._sender is not None:
            await asyncio.shield(self._sender)


async def _awaited(handler: HotHandler, exchange: Exchange) -> None:
    await handler(exchange)
