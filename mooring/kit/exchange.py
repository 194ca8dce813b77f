"""One request of the hot path and its answer, without a framework between handler and connection (decision 14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mooring import errors

if TYPE_CHECKING:
    from mooring.kit.server import EdgeProtocol

DISCARD_LIMIT: Final = 16 << 20  # bytes of a body that nobody wants any more; then the connection ends

Header = tuple[bytes, bytes]
HotHandler = Callable[["Exchange"], Awaitable[None]]


class CallerGoneError(ConnectionError):
    """The caller closed the connection before the whole request was here."""


class Exchange:
    """One request of the hot path and its answer, written straight to the connection.

    `target` is the raw request target; header names are lower-case. When the caller goes away, the task that handles
    the request is cancelled and `disconnected` is true.
    """

    __slots__ = (
        "_discarded",
        "_expects_continue",
        "_flow",
        "_length_left",
        "_protocol",
        "_transport",
        "_waiter",
        "body",
        "chunked",
        "client",
        "disconnected",
        "headers",
        "http_1_0",
        "keep_alive",
        "method",
        "more_body",
        "received",
        "response_complete",
        "sent",
        "status",
        "target",
        "task",
    )

    def __init__(
        self,
        protocol: EdgeProtocol,
        method: str,
        target: bytes,
        headers: list[Header],
        *,
        keep_alive: bool,
        http_1_0: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.http_1_0 = http_1_0
        self.client: tuple[str, int] | None = protocol.client
        self.body = bytearray()  # what is here of the body and not taken yet
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.status = 0  # of the answer, once it has gone out
        self.received = 0  # bytes of the request's body
        self.sent = 0  # bytes of the answer's body
        self.chunked = False
        self.task: asyncio.Task[None] | None = None
        self._expects_continue = expects_continue
        self._protocol = protocol
        self._transport = protocol.transport
        self._flow: FlowControl = protocol.flow
        self._waiter: asyncio.Future[None] | None = None
        self._length_left: int | None = None
        self._discarded = 0

    @property
    def default_headers(self) -> Sequence[Header]:
        """What an answer of our own carries in any case: the date."""
        return self._protocol.server_state.default_headers

    # --- the request's body

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises PayloadTooLarge past `limit` bytes, CallerGoneError when the caller leaves early."""
        while self.more_body:
            if len(self.body) > limit:
                break
            await self._wait()
        if len(self.body) > limit:
            raise errors.PayloadTooLarge(f"the body is larger than {limit} bytes")
        taken = bytes(self.body)
        self.body.clear()
        return taken

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Whoever reads sets the pace: the connection is read no faster."""
        while True:
            if self.body:
                taken = bytes(self.body)
                self.body.clear()
                self._flow.resume_reading()
                yield taken
            elif self.more_body:
                await self._wait()
            else:
                return

    async def _wait(self) -> None:
        if self.disconnected:
            raise CallerGoneError("the caller went away")
        if self._expects_continue:
            self._expects_continue = False
            self._protocol.writes.flush()
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._flow.resume_reading()
        self._waiter = self._protocol.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self.disconnected and self.more_body:
            raise CallerGoneError("the caller went away")

    def feed(self, data: bytes) -> None:
        """Take a piece of the body from the connection."""
        if self.response_complete:
            self._discarded += len(data)
            if self._discarded > DISCARD_LIMIT:
                self._transport.close()
            return
        self.body += data
        self.received += len(data)
        if len(self.body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self._wake()

    def feed_end(self) -> None:
        """The body is here."""
        self.more_body = False
        self._wake()

    def gone(self) -> None:
        """The caller left. What runs for it is cancelled, unless its answer is out."""
        self.disconnected = True
        self._wake()
        if self.task is not None and not self.response_complete:
            self.task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the answer

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole answer in one write. Framing headers are ours: `headers` must not hold any."""
        head = self._head(status, headers)
        if status < 200 or status in {204, 304}:
            head.append(b"\r\n")
        else:
            head.append(b"content-length: %d\r\n\r\n" % len(body))
            if body and self.method != "HEAD":
                head.append(body)
                self.sent = len(body)
        self.status = status
        self._protocol.writes.write(self._transport, b"".join(head))
        if not self.keep_alive:
            self._protocol.writes.flush()
        self._finish()

    def begin(self, status: int, headers: Sequence[Header], *, length: int | None, has_body: bool) -> None:
        """Send the head of an answer whose body follows by `send`, then `end`.

        Without a known length the body is chunked, or ends with the connection for HTTP/1.0 (RFC 9112 §6.3). With
        `has_body` false (HEAD, 204, 304) a length is announced as it is and no body may follow.
        """
        head = self._head(status, headers)
        if length is not None:
            head.append(b"content-length: %d\r\n" % length)
            self._length_left = length if has_body else 0
        elif has_body and self.http_1_0:
            if self.keep_alive:
                self.keep_alive = False
                head.append(b"connection: close\r\n")
        elif has_body:
            self.chunked = True
            head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n")
        self.status = status
        self._protocol.writes.flush()  # an answer before this one on the same connection
        self._transport.write(b"".join(head))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the caller reads slowly. What follows a caller's leaving is dropped."""
        # The transport knows at once that a write failed; that the caller left is told in the loop's next round only,
        # which whoever sends without a pause does not let come.
        if not data or self.disconnected or self._transport.is_closing():
            return
        if self._length_left is not None:
            self._length_left -= len(data)
            if self._length_left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        self.sent += len(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        if self._flow.write_paused:
            await self._flow.drain()

    def end(self) -> None:
        """The answer is complete."""
        if self.disconnected:
            return
        if self._length_left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        if self.chunked:
            self._transport.write(b"0\r\n\r\n")
        self._finish()

    def cut(self) -> None:
        """Break the connection: only that tells a caller that a body is not whole."""
        self.response_complete = True
        self._transport.abort()

    def _head(self, status: int, headers: Sequence[Header]) -> list[bytes]:
        self._expects_continue = False
        line = STATUS_LINE.get(status)
        head = [line if line is not None else b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            head += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        return head

    def _finish(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._protocol.on_exchange_complete()
