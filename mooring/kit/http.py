"""Send HTTP requests: the one way out. Only this module knows the HTTP library (pyreqwest).

Every request passes the egress guard and connects to the address the guard checked. Redirects, proxies from
the environment, cookies and decompression are off: what the provider sends is what the caller gets.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pyreqwest.bytes import Bytes
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from mooring.errors import EgressBlocked
from mooring.kit.egress import DnsFailure, EgressGuard, SplitUrl, Target
from mooring.kit.http_wire import (
    FailureKind,
    Headers,
    HttpFailure,
    OutboundRequest,
    Upload,
    build_request,
    response_headers,
    timed_out,
    to_failure,
    too_large,
)

__all__ = [
    "BufferedResponse",
    "FailureKind",
    "Headers",
    "HttpClient",
    "HttpFailure",
    "OutboundRequest",
    "StreamedResponse",
]

MAX_CLIENTS = 512
CONNECT_TIMEOUT = 5.0
POOL_IDLE = 30.0
UPLOAD_BACKSTOP = 3600
SMALL_BODY = 64 * 1024


@dataclass(slots=True)
class BufferedResponse:
    """A whole answer. Header names are lower-case."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    elapsed_ms: int

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """Parse the body as JSON; raise ValueError if it is none."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None


class StreamedResponse:
    """An answer whose body is still on its way. Read `chunks()` to the end or call `aclose()`."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        *,
        host: str,
        idle: float,
        read: Callable[[], Awaitable[Bytes | None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.headers = headers
        self._host = host
        self._idle = idle
        self._read = read
        self._close = close
        self._closed = False
        announced = next((value for name, value in headers if name == "content-length"), "")
        self._length = int(announced) if announced.isdecimal() and status != 304 else None

    @property
    def small(self) -> bool:
        """Whether the length of the body is known and one piece of memory may hold it."""
        return self._length is not None and self._length <= SMALL_BODY

    async def whole(self) -> bytes:
        """Return a small body. Raises as `chunks` does."""
        left = self._length or 0
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._idle) as timer:
                while left > 0:
                    chunk = await self._read()
                    if chunk is None:
                        break
                    if parts:
                        timer.reschedule(asyncio.get_running_loop().time() + self._idle)
                    data = chunk.to_bytes()
                    left -= len(data)
                    parts.append(data)
        except TimeoutError:
            raise timed_out(self._host, f"sent nothing for {self._idle:g} s") from None
        except PyreqwestError as fault:
            raise to_failure(self._host, fault) from None
        finally:
            await self.aclose()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise HttpFailure if it ends early or stands still for `idle` s."""
        try:
            while not self._closed:
                async with asyncio.timeout(self._idle):
                    chunk = await self._read()
                if chunk is None:
                    return
                yield chunk.to_bytes()
        except TimeoutError:
            raise timed_out(self._host, f"sent nothing for {self._idle:g} s") from None
        except PyreqwestError as fault:
            raise to_failure(self._host, fault) from None
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back, or drop it if the body has not been read to its end."""
        if not self._closed:
            self._closed = True
            await self._close()


@dataclass(slots=True)
class _Pooled:
    client: Client
    in_use: int = 0
    evicted: bool = False


_Key = tuple[str, str, int, str, int]


class HttpClient:
    """Send requests through the guard, with one connection pool per checked address.

    Make it in the process that uses it, not before a fork. `extra_root_pem` adds certificate authorities.
    """

    def __init__(
        self,
        guard: EgressGuard,
        *,
        user_agent: str,
        extra_root_pem: bytes | None = None,
        max_clients: int = MAX_CLIENTS,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._guard = guard
        self._user_agent = user_agent
        self._extra_root_pem = extra_root_pem
        self._max_clients = max_clients
        self._connect_timeout = connect_timeout
        self._pool: OrderedDict[_Key, _Pooled] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: OutboundRequest, *, deadline: float, max_bytes: int = 1 << 20) -> BufferedResponse:
        """Return the whole answer within `deadline` seconds, DNS, connect and body included.

        Raises HttpFailure; ValueError for a header or method that cannot be sent.
        """
        started = time.monotonic()
        pooled: _Pooled | None = None
        upload: Upload | None = None
        parts = self._split(request.url)
        host = parts.host
        reached = False
        try:
            async with asyncio.timeout(deadline):
                target = await self._check(parts, request.url)
                pooled = self._take(target, 0)
                builder, upload = build_request(pooled.client, request, parts)
                # The library goes on with a request whose caller is gone, so it must know the deadline as
                # well.
                left = max(deadline - (time.monotonic() - started), 0.001)
                outbound = builder.timeout(timedelta(seconds=left)).build_streamed()
                reached = True
                status, headers, body = await self._exchange(outbound, target, request.method, max_bytes)
        except TimeoutError:
            raise timed_out(host, f"did not answer within {deadline:g} s", sent=reached) from None
        finally:
            if upload is not None:
                await upload.aclose()
            if pooled is not None:
                await self._release(pooled)
        return BufferedResponse(status, headers, body, round((time.monotonic() - started) * 1000))

    async def resolve(self, url: str) -> None:
        """Ask whether this URL could be called, and send nothing. Raises HttpFailure: blocked, or without an address."""
        await self._check(self._split(url), url)

    async def _exchange(
        self, outbound: StreamRequest, target: Target, method: str, max_bytes: int
    ) -> tuple[int, Headers, bytes]:
        try:
            async with outbound as response:
                headers = response_headers(response)
                announced = response.get_header("content-length") or ""
                bodiless = method == "HEAD" or response.status == 304
                if announced.isdecimal() and int(announced) > max_bytes and not bodiless:
                    raise too_large(target.host, max_bytes)
                body = b""
                reader = response.body_reader
                if (chunk := await reader.read_chunk()) is not None:
                    body = chunk.to_bytes()
                    if (chunk := await reader.read_chunk()) is not None:
                        body = await _collect(reader.read_chunk, body, chunk, target.host, max_bytes)
                if len(body) > max_bytes:
                    raise too_large(target.host, max_bytes)
                return response.status, headers, body
        except PyreqwestError as fault:
            raise self._connect_failure(target, fault) from None

    async def stream(self, request: OutboundRequest, *, first_byte: float, idle: float) -> StreamedResponse:
        """Return the answer's head within `first_byte` seconds and its body as a stream.

        While a streamed request body is on its way the limit is `idle` seconds between two of its chunks
        instead, and `first_byte` starts anew at its end. Raises as `send` does. Faults of the caller's body
        pass through.
        """
        parts = self._split(request.url)
        host = parts.host
        pooled: _Pooled | None = None
        upload: Upload | None = None
        reached = False
        try:
            async with asyncio.timeout(first_byte) as timer:
                target = await self._check(parts, request.url)
                pooled = self._take(target, _backstop(request, first_byte, idle))
                builder, upload = build_request(pooled.client, request, parts)
                if upload is not None:
                    upload.watch(timer, first_byte=first_byte, idle=idle)
                outbound = builder.streamed_read_buffer_limit(0).build_streamed()
                reached = True
                response = await self._open(outbound, target)
            if upload is not None:
                upload.unwatch()
            return self._streamed(outbound, response, host, idle, pooled, upload)
        except BaseException as fault:
            if upload is not None:
                await upload.aclose()
            if pooled is not None:
                await self._release(pooled)
            if isinstance(fault, TimeoutError):
                stalled = upload is not None and not upload.finished
                what = (
                    f"and the request body stood still for {idle:g} s"
                    if stalled
                    else f"did not answer within {first_byte:g} s"
                )
                raise timed_out(host, what, sent=reached) from None
            raise

    async def _open(self, outbound: StreamRequest, target: Target) -> Response:
        try:
            return await outbound.__aenter__()
        except PyreqwestError as fault:
            raise self._connect_failure(target, fault) from None

    def _streamed(
        self,
        outbound: StreamRequest,
        response: Response,
        host: str,
        idle: float,
        pooled: _Pooled,
        upload: Upload | None,
    ) -> StreamedResponse:
        async def close() -> None:
            if upload is not None:
                await upload.aclose()
            try:
                await outbound.__aexit__(None, None, None)
            finally:
                await self._release(pooled)

        return StreamedResponse(
            response.status,
            response_headers(response),
            host=host,
            idle=idle,
            read=response.body_reader.read_chunk,
            close=close,
        )

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        clients = [pooled.client for pooled in self._pool.values()]
        self._pool.clear()
        for client in clients:
            await client.close()
        if self._closing:
            await asyncio.gather(*self._closing)

    def _split(self, url: str) -> SplitUrl:
        try:
            return self._guard.split(url)
        except EgressBlocked as fault:
            raise HttpFailure("blocked", fault.message, sent=False) from None

    async def _check(self, parts: SplitUrl, url: str) -> Target:
        try:
            return await self._guard.check_parts(parts, url)
        except EgressBlocked as fault:
            raise HttpFailure("blocked", fault.message, sent=False) from None
        except DnsFailure as fault:
            raise HttpFailure("dns", f"{fault}.", sent=False) from None

    def _connect_failure(self, target: Target, fault: PyreqwestError) -> HttpFailure:
        failure = to_failure(target.host, fault)
        if not failure.sent and failure.kind in {"refused", "unreachable", "timeout"}:
            self._guard.demote(target)
        return failure

    def _take(self, target: Target, backstop: int) -> _Pooled:
        key = (target.scheme, target.host, target.port, target.ip, backstop)
        pooled = self._pool.get(key)
        if pooled is None:
            pooled = _Pooled(self._new_client(target, backstop))
            self._pool[key] = pooled
            while len(self._pool) > self._max_clients:
                self._evict()
        else:
            self._pool.move_to_end(key)
        pooled.in_use += 1
        return pooled

    def _evict(self) -> None:
        _, oldest = self._pool.popitem(last=False)
        oldest.evicted = True
        if not oldest.in_use:
            task = asyncio.create_task(_close(oldest.client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _release(self, pooled: _Pooled) -> None:
        pooled.in_use -= 1
        if pooled.evicted and not pooled.in_use:
            await pooled.client.close()

    def _new_client(self, target: Target, backstop: int) -> Client:
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .default_cookie_store(False)
            .user_agent(self._user_agent)
            .min_tls_version("TLSv1.2")
            .connect_timeout(timedelta(seconds=self._connect_timeout))
            .pool_idle_timeout(timedelta(seconds=POOL_IDLE))
            .resolve(target.host, target.ip, target.port)
        )
        if backstop:
            builder = builder.read_timeout(timedelta(seconds=backstop))
        if self._extra_root_pem is not None:
            builder = builder.add_root_certificate_pem(self._extra_root_pem)
        return builder.build()


async def _collect(
    read: Callable[[], Awaitable[Bytes | None]], body: bytes, chunk: Bytes | None, host: str, max_bytes: int
) -> bytes:
    buffer = bytearray(body)
    while chunk is not None:
        buffer += chunk.to_bytes()
        if len(buffer) > max_bytes:
            raise too_large(host, max_bytes)
        chunk = await read()
    return bytes(buffer)


def _backstop(request: OutboundRequest, first_byte: float, idle: float) -> int:
    # A cancelled call lives on inside the library until the provider answers or this many seconds pass
    # without a byte. The library counts an upload as silence.
    if request.body is None or isinstance(request.body, bytes):
        return math.ceil(max(first_byte, idle)) + 1
    return UPLOAD_BACKSTOP


async def _close(client: Client) -> None:
    await client.close()
