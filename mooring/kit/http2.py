"""Serve origins that chose HTTP/2 through pyreqwest. Imported when the first one does, and not before.

Its library runs threads of its own, and it goes on with a request whose caller is gone until the provider
answers or a time is up; that is why HTTP/1.1 does not come through here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from pyreqwest.bytes import Bytes
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from mooring.kit.egress import SplitUrl, Target
from mooring.kit.http2_wire import Upload, body_length, build_request, response_headers, to_failure
from mooring.kit.http_wire import (
    Headers,
    OutboundRequest,
    RawHeaders,
    StreamedResponse,
    timed_out,
    too_large,
)

POOL_IDLE = 30.0
UPLOAD_BACKSTOP = 3600


class Http2Response(StreamedResponse):
    """An answer whose body the library hands over piece by piece."""

    __slots__ = ("_close", "_closed", "_host", "_idle", "_read")

    def __init__(
        self,
        status: int,
        raw_headers: RawHeaders,
        length: int | None,
        *,
        host: str,
        idle: float,
        read: Callable[[], Awaitable[Bytes | None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.length = length
        self._host = host
        self._idle = idle
        self._read = read
        self._close = close
        self._closed = False

    def taken(self) -> bytes | None:
        """Return None: the library cannot say what is already here."""
        return None

    async def whole(self) -> bytes:
        """Return a small body. Raises as `chunks` does."""
        return b"".join([chunk async for chunk in self.chunks()])

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


class Http2Road:
    """Send requests to checked addresses, with one client of the library for each."""

    def __init__(
        self, *, user_agent: str, extra_root_pem: bytes | None, max_clients: int, connect_timeout: float
    ) -> None:
        self._user_agent = user_agent
        self._extra_root_pem = extra_root_pem
        self._max_clients = max_clients
        self._connect_timeout = connect_timeout
        self._pool: OrderedDict[_Key, _Pooled] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(
        self,
        request: OutboundRequest,
        target: Target,
        parts: SplitUrl,
        *,
        left: float,
        limit: float,
        max_bytes: int,
    ) -> tuple[int, Headers, bytes]:
        """Return status, headers and body within the `left` seconds of the call's `limit`."""
        started = time.monotonic()
        pooled = self._take(target, 0)
        upload: Upload | None = None
        try:
            async with asyncio.timeout(left):
                builder, upload = build_request(pooled.client, request, parts)
                # The library goes on with a request whose caller is gone, so it must know the deadline as
                # well.
                rest = max(left - (time.monotonic() - started), 0.001)
                outbound = builder.timeout(timedelta(seconds=rest)).build_streamed()
                return await self._exchange(outbound, target, request.method, max_bytes)
        except TimeoutError:
            raise timed_out(target.host, f"did not answer within {limit:g} s") from None
        finally:
            if upload is not None:
                await upload.aclose()
            await self._release(pooled)

    async def _exchange(
        self, outbound: StreamRequest, target: Target, method: str, max_bytes: int
    ) -> tuple[int, Headers, bytes]:
        try:
            async with outbound as response:
                headers = response_headers(response)
                length = body_length(response.status, method, headers)
                if length is not None and length > max_bytes:
                    raise too_large(target.host, max_bytes)
                body = bytearray()
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    body += chunk.to_bytes()
                    if len(body) > max_bytes:
                        raise too_large(target.host, max_bytes)
                return response.status, headers, bytes(body)
        except PyreqwestError as fault:
            raise to_failure(target.host, fault) from None

    async def stream(
        self,
        request: OutboundRequest,
        target: Target,
        parts: SplitUrl,
        *,
        left: float,
        first_byte: float,
        idle: float,
    ) -> StreamedResponse:
        """Return the answer's head within the `left` seconds of `first_byte`, and its body as a stream."""
        pooled = self._take(target, _backstop(request, first_byte, idle))
        upload: Upload | None = None
        try:
            async with asyncio.timeout(left) as timer:
                builder, upload = build_request(pooled.client, request, parts)
                if upload is not None:
                    upload.watch(timer, first_byte=first_byte, idle=idle)
                outbound = builder.streamed_read_buffer_limit(0).build_streamed()
                try:
                    response = await outbound.__aenter__()
                except PyreqwestError as fault:
                    raise to_failure(target.host, fault) from None
            if upload is not None:
                upload.unwatch()
            return self._streamed(outbound, response, request.method, target.host, idle, pooled, upload)
        except BaseException as fault:
            if upload is not None:
                await upload.aclose()
            await self._release(pooled)
            if isinstance(fault, TimeoutError):
                stalled = upload is not None and not upload.finished
                what = (
                    f"and the request body stood still for {idle:g} s"
                    if stalled
                    else f"did not answer within {first_byte:g} s"
                )
                raise timed_out(target.host, what) from None
            raise

    def _streamed(
        self,
        outbound: StreamRequest,
        response: Response,
        method: str,
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

        headers = response_headers(response)
        return Http2Response(
            response.status,
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            body_length(response.status, method, headers),
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
            .http2(True)
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


def _backstop(request: OutboundRequest, first_byte: float, idle: float) -> int:
    # A cancelled call lives on inside the library until the provider answers or this many seconds pass
    # without a byte. The library counts an upload as silence.
    if request.body is None or isinstance(request.body, bytes):
        return math.ceil(max(first_byte, idle)) + 1
    return UPLOAD_BACKSTOP


async def _close(client: Client) -> None:
    await client.close()
