"""Send HTTP requests: the one way out.

Every request passes the egress guard and connects to the address the guard checked. Redirects, proxies from
the environment, cookies and decompression are off: what the provider sends is what the caller gets. HTTP/1.1
is our own (`http1`), an origin that chooses HTTP/2 is served by pyreqwest (`http2`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mooring.errors import EgressBlocked
from mooring.kit.egress import DnsFailure, EgressGuard, SplitUrl, Target
from mooring.kit.http1_answer import Answer
from mooring.kit.http_head import agent_line, write_head
from mooring.kit.http_pool import Origin, Pool
from mooring.kit.http_proxy import parse_proxy
from mooring.kit.http_wire import (
    BufferedResponse,
    ClientIdentity,
    FailureKind,
    Headers,
    HttpFailure,
    OutboundRequest,
    RawHeaders,
    StreamedResponse,
    timed_out,
    too_large,
)

if TYPE_CHECKING:
    from mooring.kit.http2 import Http2Road

__all__ = [
    "BufferedResponse",
    "ClientIdentity",
    "FailureKind",
    "Headers",
    "HttpClient",
    "HttpFailure",
    "OutboundRequest",
    "RawHeaders",
    "StreamedResponse",
]

MAX_CLIENTS = 512
CONNECT_TIMEOUT = 5.0

# Methods that may be sent again when a kept connection turns out to be dead (RFC 9110 §9.2.2; of WebDAV those
# that only read).
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"})


class HttpClient:
    """Send requests through the guard, with one connection pool per checked address.

    Make it in the process that uses it, not before a fork. `extra_root_pem` adds certificate authorities. With `proxy`
    (`http://host:port`) every connection is a tunnel through it to the checked address, and speaks HTTP/1.1.
    """

    def __init__(
        self,
        guard: EgressGuard,
        *,
        user_agent: str,
        extra_root_pem: bytes | None = None,
        max_clients: int = MAX_CLIENTS,
        connect_timeout: float = CONNECT_TIMEOUT,
        proxy: str | None = None,
    ) -> None:
        self._guard = guard
        self._user_agent = user_agent
        self._agent = agent_line(user_agent)
        self._extra_root_pem = extra_root_pem
        self._max_clients = max_clients
        self._connect_timeout = connect_timeout
        self._pool = Pool(
            extra_root_pem=extra_root_pem,
            max_origins=max_clients,
            connect_timeout=connect_timeout,
            proxy=parse_proxy(proxy) if proxy else None,
        )
        self._http2: Http2Road | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.blocked = 0  # requests that the guard refused

    async def send(self, request: OutboundRequest, *, deadline: float, max_bytes: int = 1 << 20) -> BufferedResponse:
        """Return the whole answer within `deadline` seconds, DNS, connect and body included.

        Raises HttpFailure; ValueError for a header or method that cannot be sent.
        """
        started = time.monotonic()
        loop = self._loop or self._first_call()
        now = loop.time()
        end = now + deadline
        parts = self._split(request.url)
        target = self._guard.known(parts, now) or await self._check(parts, request.url, end, deadline)
        origin = self._pool.origin(target, request.identity)
        answer = None if origin.http2 else await self._open(origin, request, parts, end, deadline, deadline, True)
        if answer is None:
            with self._blaming(target):
                status, headers, body = await self._road().send(
                    request, target, parts, left=end - loop.time(), limit=deadline, max_bytes=max_bytes
                )
        else:
            if answer.length is not None and answer.length > max_bytes:
                await answer.aclose()
                raise too_large(target.host, max_bytes)
            body = await answer.collect(max_bytes)
            status, headers = answer.status, answer.headers
        return BufferedResponse(status, headers, body, round((time.monotonic() - started) * 1000))

    async def resolve(self, url: str) -> None:
        """Ask whether this URL could be called, and send nothing. Raises HttpFailure: blocked, or without an address."""
        limit = CONNECT_TIMEOUT
        await self._check(self._split(url), url, asyncio.get_running_loop().time() + limit, limit)

    async def stream(self, request: OutboundRequest, *, first_byte: float, idle: float) -> StreamedResponse:
        """Return the answer's head within `first_byte` seconds and its body as a stream.

        While a streamed request body is on its way the limit is `idle` seconds between two of its chunks
        instead, and `first_byte` starts anew at its end. Raises as `send` does. Faults of the caller's body
        pass through.
        """
        loop = self._loop or self._first_call()
        now = loop.time()
        end = now + first_byte
        parts = self._split(request.url)
        target = self._guard.known(parts, now) or await self._check(parts, request.url, end, first_byte)
        origin = self._pool.origin(target, request.identity)
        answer = None if origin.http2 else await self._open(origin, request, parts, end, first_byte, idle, False)
        if answer is not None:
            return answer
        with self._blaming(target):
            return await self._road().stream(
                request, target, parts, left=end - loop.time(), first_byte=first_byte, idle=idle
            )

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        self._pool.close()
        if self._http2 is not None:
            await self._http2.aclose()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    def _first_call(self) -> asyncio.AbstractEventLoop:
        # Remembered because asking costs a system call each time (Python 3.11 compares the process id).
        self._loop = asyncio.get_running_loop()
        self._pool.start(self._loop)
        return self._loop

    async def _open(
        self,
        origin: Origin,
        request: OutboundRequest,
        parts: SplitUrl,
        end: float,
        limit: float,
        idle: float,
        total: bool,
    ) -> Answer | None:
        """Return an answer whose head is here; None if the server chose HTTP/2."""
        head = write_head(request, parts.rest, origin.lines, self._agent)
        loop = self._pool.loop
        again = head.streamed is None and head.method in _IDEMPOTENT
        connection = origin.take(loop.time(), careful=not again)
        while True:
            if connection is None:
                with self._blaming(origin.target):
                    connection = await self._pool.connect(origin, end - loop.time(), limit)
                if connection is None:
                    return None
            answer = Answer(loop, self._pool.deadlines, parts.host, limit=limit, idle=idle, total=total)
            try:
                await answer.begin(connection, head, end)
            except BaseException:
                await answer.aclose()
                raise
            if answer.fault is None:
                answer.settle()
                return answer
            if answer.stale and again:
                connection = None
                continue
            await answer.aclose()
            raise answer.fault

    @contextmanager
    def _blaming(self, target: Target) -> Iterator[None]:
        """Prefer the name's other addresses after this one accepted no connection."""
        try:
            yield
        except HttpFailure as failure:
            if not failure.sent and failure.kind in {"refused", "unreachable", "timeout"}:
                self._guard.demote(target)
            raise

    def _split(self, url: str) -> SplitUrl:
        try:
            return self._guard.split(url)
        except EgressBlocked as fault:
            self.blocked += 1
            raise HttpFailure("blocked", fault.message, sent=False) from None

    async def _check(self, parts: SplitUrl, url: str, end: float, limit: float) -> Target:
        try:
            async with asyncio.timeout_at(end):
                return await self._guard.check_parts(parts, url)
        except TimeoutError:
            raise timed_out(parts.host, f"did not answer within {limit:g} s", sent=False) from None
        except EgressBlocked as fault:
            self.blocked += 1
            raise HttpFailure("blocked", fault.message, sent=False) from None
        except DnsFailure as fault:
            raise HttpFailure("dns", f"{fault}.", sent=False) from None

    def _road(self) -> Http2Road:
        if self._http2 is None:
            # Its threads and memory cost nothing until an origin wants it.
            from mooring.kit.http2 import Http2Road

            self._http2 = Http2Road(
                user_agent=self._user_agent,
                extra_root_pem=self._extra_root_pem,
                max_clients=self._max_clients,
                connect_timeout=self._connect_timeout,
            )
        return self._http2
