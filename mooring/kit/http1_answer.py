"""Follow one exchange over HTTP/1.1: its answer, its deadline, and the upload of a streamed request body."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING

from mooring.kit.http_deadlines import Deadlines, Slot
from mooring.kit.http_head import Head
from mooring.kit.http_wire import RawHeaders, StreamedResponse, timed_out, too_large

if TYPE_CHECKING:
    from mooring.kit.http1 import Connection

# A source that never waits must not keep the loop from others for longer than this many bytes take.
_TURN = 256 * 1024


class Answer(StreamedResponse):
    """An answer that is awaited or on its way. The connection hands it over and goes home by itself."""

    __slots__ = (
        "_armed",
        "_closed",
        "_connection",
        "_deadline",
        "_deadlines",
        "_idle",
        "_limit",
        "_loop",
        "_slot",
        "_total",
        "_upload",
        "_waiter",
        "complete",
        "fault",
        "host",
        "parts",
        "size",
        "stale",
        "uploaded",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        host: str,
        *,
        limit: float,
        idle: float,
        total: bool,
    ) -> None:
        self.status = 0
        self.raw_headers: RawHeaders = []
        self.length: int | None = None
        self.host = host
        self.parts: list[bytes] = []
        self.size = 0
        self.complete = False
        self.stale = False
        """The connection was a kept one and was closed before the first byte of an answer."""
        self.uploaded = True
        self.fault: BaseException | None = None
        self._loop = loop
        self._deadlines = deadlines
        self._limit = limit
        self._idle = idle
        self._total = total
        self._closed = False
        self._connection: Connection | None = None
        self._slot: Slot | None = None
        self._deadline = self._armed = math.inf
        self._upload: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, connection: Connection, head: Head, deadline: float) -> asyncio.Future[None]:
        """Send the request; the future is done when the head is here or the exchange has failed."""
        self._connection = connection
        waiter = self._waiter = self._loop.create_future()
        self._deadline = self._armed = deadline
        self._slot = self._deadlines.add(self, deadline)
        connection.begin(self, head)
        if head.streamed is not None:
            self.uploaded = False
            self._upload = self._loop.create_task(self._send(connection, head.streamed, head.length))
        return waiter

    def settle(self) -> None:
        """Stop the clock of the head; the body has its own."""
        if not self._total:
            self._stop_clock()

    # --- called by the connection ---

    def wake(self) -> None:
        """Let the one who waits look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish(self) -> None:
        """Note that the body is here to its end."""
        self.complete = True
        self._connection = None
        self._stop_clock()
        if self._upload is not None:
            self._upload.cancel()
        self.wake()

    def fail(self, fault: BaseException, *, stale: bool = False) -> None:
        """Note why there is no more to come."""
        self.fault = fault
        self.stale = stale
        self._connection = None
        self._stop_clock()
        if self._upload is not None:
            self._upload.cancel()
        self.wake()

    # --- for the caller ---

    def taken(self) -> bytes | None:
        """Return the complete body if it is already here, which ends the exchange; None if it is not."""
        if not self.complete:
            return None
        self._closed = True
        parts = self.parts
        self.parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def whole(self) -> bytes:
        """Return a small body, without waiting if it is already here. Raises as `chunks` does."""
        if self.complete:
            return self.taken() or b""
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise HttpFailure if it ends early or stands still for `idle` s."""
        try:
            while not self._closed:
                if self.parts:
                    yield self._pop()
                elif self.fault is not None:
                    raise self.fault
                elif self.complete:
                    return
                else:
                    await self._more()
        finally:
            await self.aclose()

    async def collect(self, max_bytes: int) -> bytes:
        """Return the whole body, however long; raise HttpFailure if it exceeds `max_bytes`."""
        gathered = bytearray()
        if not self.complete:
            try:
                while not self.complete:
                    if self.fault is not None:
                        raise self.fault
                    if self.parts:
                        gathered += self._pop()
                    if len(gathered) > max_bytes:
                        raise too_large(self.host, max_bytes)
                    await self._more()
            finally:
                await self.aclose(keep=self.complete)
        rest = self.taken() or b""
        if len(gathered) + len(rest) > max_bytes:
            raise too_large(self.host, max_bytes)
        return bytes(gathered + rest) if gathered else rest

    async def aclose(self, *, keep: bool = False) -> None:
        """End the exchange. If the body has not been received to its end, the connection is closed."""
        if not keep:
            self._closed = True
            self.parts = []
        self._stop_clock()
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.drop()
        self.wake()
        upload = self._upload
        if upload is not None:
            self._upload = None
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)

    def _pop(self) -> bytes:
        parts = self.parts
        self.parts = []
        self.size = 0
        if self._connection is not None:
            self._connection.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _more(self) -> None:
        """Wait until there is something to look at."""
        waiter = self._waiter = self._loop.create_future()
        if not self._total:
            self._until(self._loop.time() + self._idle)
        await waiter
        if not self._total:
            # A reader that takes its time is no fault of the provider.
            self._deadline = math.inf

    # --- deadlines ---

    def _until(self, when: float) -> None:
        self._deadline = when
        if self._slot is None or self._armed > when:
            self._stop_clock()
            self._armed = when
            self._slot = self._deadlines.add(self, when)

    def expire(self) -> None:
        """End the exchange, unless the deadline was moved meanwhile."""
        self._slot = None
        if self._deadline == math.inf:
            return
        if self._deadline > self._armed:
            self._until(self._deadline)
            return
        if self._total:
            what = f"did not answer within {self._limit:g} s"
        elif self.status:
            what = f"sent nothing for {self._idle:g} s"
        elif not self.uploaded:
            what = f"and the request body stood still for {self._idle:g} s"
        else:
            what = f"did not answer within {self._limit:g} s"
        if self._connection is not None:
            self._connection.drop()
        self.fail(timed_out(self.host, what))

    def _stop_clock(self) -> None:
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None

    # --- upload ---

    async def _send(self, connection: Connection, body: AsyncIterable[bytes], length: int | None) -> None:
        source = aiter(body)
        try:
            await self._send_all(connection, source, length)
            self.uploaded = True
            self._progress(self._limit)
        except Exception as fault:  # noqa: BLE001 - the caller's own fault, handed back to it
            if self._connection is connection:
                connection.drop()
                self.fail(fault)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _send_all(self, connection: Connection, source: AsyncIterator[bytes], length: int | None) -> None:
        left = length
        turn = 0
        while True:
            self._progress(self._idle)
            chunk = await anext(source, None)
            if chunk is None:
                break
            if not chunk:  # an empty chunk would end a chunked body early
                continue
            if left is None:
                connection.send(b"%x\r\n" % len(chunk), bytes(chunk), b"\r\n")
            else:
                left -= len(chunk)
                if left < 0:
                    raise ValueError("the request body is longer than its Content-Length")
                connection.send(bytes(chunk))
            turn += len(chunk)
            if connection.drained is not None:
                await connection.drained
                turn = 0
            elif turn > _TURN:
                await asyncio.sleep(0)
                turn = 0
        if left is None:
            connection.send(b"0\r\n\r\n")
        elif left:
            raise ValueError("the request body is shorter than its Content-Length")

    def _progress(self, seconds: float) -> None:
        """Let the upload move the deadline of the head."""
        if not self._total and not self.status and self._slot is not None:
            self._until(self._loop.time() + seconds)
