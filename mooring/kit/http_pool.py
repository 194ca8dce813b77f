"""Open connections to checked addresses and keep them between requests, the one used last on top."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from functools import partial

from mooring.kit.egress import Target
from mooring.kit.http1 import Connection
from mooring.kit.http_deadlines import Deadlines
from mooring.kit.http_head import host_lines
from mooring.kit.http_proxy import EgressProxy, open_tunnel
from mooring.kit.http_tls import make_context, make_context_for, tls_failure
from mooring.kit.http_wire import ClientIdentity, HttpFailure, closed_early, timed_out

IDLE_SECONDS = 30.0
IDLE_LIMIT = 1024
_SWEEP_SECONDS = 5.0

_Key = tuple[str, ...]


class Origin:
    """The kept connections of one scheme, host, port, checked address and client certificate."""

    __slots__ = ("_pool", "context", "evicted", "http2", "identity", "idle", "lines", "target")

    def __init__(self, pool: Pool, target: Target, lines: bytes, identity: ClientIdentity | None = None) -> None:
        self._pool = pool
        self.identity = identity
        self.context: ssl.SSLContext | None = None  # that shows the certificate
        self.target = target
        self.lines = lines
        self.idle: list[Connection] = []
        self.http2 = False
        """The server chose HTTP/2, so it is served by the other road."""
        self.evicted = False

    def take(self, now: float, *, careful: bool) -> Connection | None:
        """Return a kept connection that is still good. `careful` asks the kernel as well."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            self._pool.idle -= 1
            if connection.closed:
                continue
            if now - connection.idle_since > IDLE_SECONDS or (careful and not connection.quiet()):
                connection.drop()
                continue
            return connection
        return None

    def keep(self, connection: Connection) -> None:
        """Take a connection that is ready for another request."""
        if self.evicted:
            connection.drop()
            return
        self.idle.append(connection)
        self._pool.kept(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""
        self._pool.live.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
            self._pool.idle -= 1

    def close(self, before: float | None = None) -> None:
        """Close the kept connections, or those that have been idle since `before`."""
        idle = self.idle
        while idle and (before is None or idle[0].idle_since <= before):
            connection = idle.pop(0)
            self._pool.idle -= 1
            connection.drop()


class Pool:
    """The origins in use, at most `max_origins`; the one that was not used for longest gives way."""

    def __init__(
        self,
        *,
        extra_root_pem: bytes | None,
        max_origins: int,
        connect_timeout: float,
        proxy: EgressProxy | None = None,
    ) -> None:
        self._proxy = proxy
        self._extra_root_pem = extra_root_pem
        self._max_origins = max_origins
        self._connect_timeout = connect_timeout
        self._context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop
        self.deadlines: Deadlines
        self.origins: OrderedDict[_Key, Origin] = OrderedDict()
        self.live: set[Connection] = set()
        self.idle = 0

    def origin(self, target: Target, identity: ClientIdentity | None = None) -> Origin:
        """Return the place of this address and client certificate; make it if it is new."""
        key: _Key = (target.origin, target.ip)
        if identity is not None:
            key = (*key, identity.fingerprint)  # a connection belongs to whom the certificate names
        origin = self.origins.get(key)
        if origin is not None:
            self.origins.move_to_end(key)
            return origin
        origin = self.origins[key] = Origin(self, target, host_lines(target.origin), identity)
        while len(self.origins) > self._max_origins:
            _, oldest = self.origins.popitem(last=False)
            oldest.evicted = True
            oldest.close()
        return origin

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Learn the loop before the first call."""
        self.loop = loop
        self.deadlines = Deadlines(loop)

    def kept(self, connection: Connection) -> None:
        """Count a connection that came home, and see to it that it does not stay for ever."""
        connection.idle_since = self.loop.time()
        self.idle += 1
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        if self.idle > IDLE_LIMIT:
            oldest = next(origin for origin in self.origins.values() if origin.idle)
            oldest.close(oldest.idle[0].idle_since)

    async def connect(self, origin: Origin, left: float, limit: float) -> Connection | None:
        """Return a new connection, or None if the server chose HTTP/2. Raises HttpFailure.

        `left` seconds of the call's `limit` remain.
        """
        target = origin.target
        context = await self._tls(origin) if target.scheme == "https" else None
        try:
            async with asyncio.timeout(max(min(left, self._connect_timeout), 0)):
                if self._proxy is not None:
                    connection = await self._through(self._proxy, origin, context)
                else:
                    _, connection = await self.loop.create_connection(
                        partial(Connection, origin),
                        target.ip,
                        target.port,
                        ssl=context,
                        server_hostname=target.host if context else None,
                    )
        except TimeoutError:
            what = "did not accept the connection in time"
            if left < self._connect_timeout:
                what = f"did not answer within {limit:g} s"
            raise timed_out(target.host, what, sent=False) from None
        except ssl.SSLError as fault:
            raise tls_failure(target.host, fault) from None
        except ConnectionRefusedError:
            raise HttpFailure("refused", f"{target.host} refused the connection.", sent=False) from None
        except ConnectionError:
            raise closed_early(target.host, sent=False) from None
        except OSError:
            raise HttpFailure("unreachable", f"{target.host} cannot be reached.", sent=False) from None
        if connection.speaks_http2:
            connection.drop()
            origin.http2 = True
            return None
        if not connection.closed:
            self.live.add(connection)
        return connection

    async def _through(self, proxy: EgressProxy, origin: Origin, context: ssl.SSLContext | None) -> Connection:
        target = origin.target
        transport = await open_tunnel(self.loop, proxy, target)
        connection = Connection(origin)
        if context is None:
            transport.set_protocol(connection)
            connection.connection_made(transport)
            return connection
        try:
            secured = await self.loop.start_tls(transport, connection, context, server_hostname=target.host)
        except BaseException:
            transport.abort()
            raise
        if secured is None:
            raise closed_early(target.host, sent=False)
        connection.connection_made(secured)
        return connection

    def close(self) -> None:
        """Close every connection, those in use too."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for origin in self.origins.values():
            origin.evicted = True
            origin.close()
        self.origins.clear()
        for connection in list(self.live):
            connection.cut()

    async def _tls(self, origin: Origin) -> ssl.SSLContext:
        if origin.identity is not None:
            if origin.context is None:
                origin.context = await asyncio.to_thread(
                    make_context_for, origin.identity, origin.target.host, self._extra_root_pem
                )
            return origin.context
        if self._context is None:
            # HTTP/2 is another library's, which would resolve and connect past the tunnel.
            self._context = make_context(self._extra_root_pem, http2=self._proxy is None)
        return self._context

    def _sweep(self) -> None:
        before = self.loop.time() - IDLE_SECONDS
        for origin in self.origins.values():
            origin.close(before)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep) if self.idle else None
