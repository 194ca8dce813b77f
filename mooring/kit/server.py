"""Listen for HTTP/1.1: uvicorn's protocol for the framework, and beside it a direct road for the hot path.

A request whose target begins with the hot prefix never becomes an ASGI scope: its handler gets an `Exchange`, which
reads and writes the connection itself (decision 14). Everything else about a connection is uvicorn's: parsing
(llhttp), pipelining, flow control.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from email.utils import formatdate
from typing import Any, Final

import httptools
import orjson
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mooring import errors
from mooring.kit import ids
from mooring.kit.exchange import DISCARD_LIMIT, Exchange, HotHandler
from mooring.kit.forwarding import Network, client_of
from mooring.kit.writes import gathered

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

NO_SNIFF = (b"x-content-type-options", b"nosniff")
SAFE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    NO_SNIFF,
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
HEADER_LIMIT: Final = 32 << 10  # bytes of a head (rule A5)
HEAD_SECONDS: Final = 15.0  # for a whole head, from the connection's begin or the first byte on
IDLE_SECONDS: Final = 75.0  # between two requests of one connection
SWEEP_SECONDS: Final = 5.0
BACKLOG: Final = 1024

_REQUEST_LINE: Final = re.compile(rb"[A-Za-z!#$%&'*+.^_`|~0-9-]{1,40} \S+ HTTP/1\.[01]\r\n")


class EdgeProtocol(HttpToolsProtocol):
    """uvicorn's connection with limits on the head, our error body, and the hot path."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        hot_prefix: bytes,
        hot: HotHandler,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        super().__init__(config, server_state, {})
        self._hot_prefix = hot_prefix
        self._trusted = trusted_proxies
        self._peer: tuple[str, int] | None = None
        self._hot = hot
        self.writes = gathered(self.loop)
        self.writes.calls = self.tasks
        self._head_bytes = 0
        self._discarded = 0
        self._head_open = True  # a connection begins with the wait for a head
        self.waiting_since = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller connected."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = transport.get_extra_info("sockname")
        peer = transport.get_extra_info("peername")
        self.client = self._peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self.scheme = "http"

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        cycle: Any = self.cycle
        if isinstance(cycle, Exchange):
            self.connections.discard(self)
            cycle.gone()
            self.flow.resume_writing()
            self.parser = None  # type: ignore[assignment]
        else:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # an offer, which we do not take (RFC 9110 §7.8)
            return
        except httptools.HttpParserInvalidMethodError:
            if not _REQUEST_LINE.match(data):
                self._refuse(errors.BadRequest("the request is not valid HTTP", code="InvalidRequestError"))
                return
            allow = {"allow": "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"}
            self._refuse(errors.MethodNotAllowed("the request's method is not known here", headers=allow))
            return
        except httptools.HttpParserError as e:
            cause = e.__context__
            if isinstance(cause, errors.MooringError):
                self._refuse(cause)
            else:
                self._refuse(errors.BadRequest("the request is not valid HTTP", code="InvalidRequestError"))
            return
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > 2 * HEADER_LIMIT:  # llhttp hands a header over only when it is whole
                self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """A head begins."""
        self._unset_keepalive_if_required()
        self._head_open = True
        self._head_bytes = self._discarded = 0
        self.waiting_since = time.monotonic()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """The head is here: choose the road."""
        self._head_open = False
        if self.url[:4] in (b"http", b"HTTP"):  # absolute form, which a server must accept (RFC 9112 §3.2.2)
            parts = httptools.parse_url(self.url)
            self.url = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
        size = len(self.url)
        hosts = 0
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
        if size > HEADER_LIMIT:
            raise _too_large()
        version = self.parser.get_http_version()
        if hosts > 1 or (hosts == 0 and version != "1.0"):  # RFC 9112 §3.2
            raise errors.BadRequest("the request needs exactly one Host header", code="InvalidRequestError")
        if self._trusted and self._peer is not None:  # one connection of a proxy carries many callers
            self.client = (client_of(self._peer[0], self.headers, self._trusted), self._peer[1])
        if not self.url.startswith(self._hot_prefix):
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # makes the scope, which the hot path does without
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            super().on_headers_complete()
            return
        before: Any = self.cycle
        exchange: Any = Exchange(
            self,
            self.parser.get_method().decode("ascii"),
            self.url,
            self.headers,
            keep_alive=self.parser.should_keep_alive(),
            http_1_0=version == "1.0",
            expects_continue=self.expect_100_continue,
        )
        self.cycle = exchange
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            task: asyncio.Task[None] = self.loop.create_task(self._hot(cycle))  # type: ignore[arg-type]
            cycle.task = task
        else:
            task = self.loop.create_task(self._run_asgi(cycle, app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run_asgi(self, cycle: Any, app: AsgiApp) -> None:
        """Let the framework answer. An answer that does not come or is not whole ends the connection."""
        self.writes.flush()

        async def send(message: Any) -> None:
            if not self.transport.is_closing():  # as in `Exchange.send`
                await cycle.send(message)

        try:
            await app(cycle.scope, cycle.receive, send)
        except Exception as e:
            if not isinstance(e, ConnectionError):  # that is an application's way to break the connection
                log.exception("unexpected error", error=type(e).__name__)
        finally:
            if not cycle.response_complete and not cycle.disconnected:
                cycle.response_complete = True
                self.transport.abort()
            cycle.on_response = lambda: None

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        cycle: Any = self.cycle
        if isinstance(cycle, Exchange):
            cycle.feed(body)
        elif cycle.response_complete:  # refused, and the caller goes on: not without end
            self._discarded += len(body)
            if self._discarded > DISCARD_LIMIT:
                self.transport.close()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        cycle: Any = self.cycle
        if isinstance(cycle, Exchange):
            cycle.feed_end()
        else:
            super().on_message_complete()

    def on_exchange_complete(self) -> None:
        """The answer of the hot path is out: go on with what was pipelined, or wait."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self.waiting_since = time.monotonic()

    def on_response_complete(self) -> None:
        """The answer of the framework is out."""
        super().on_response_complete()
        self.waiting_since = time.monotonic()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in our shape."""
        self._refuse(errors.BadRequest(msg, code="InvalidRequestError"))

    def sweep(self, now: float) -> None:
        """Close the connection when nothing comes: half a head, or no next request."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            return
        limit = HEAD_SECONDS if self._head_open else IDLE_SECONDS
        if now - self.waiting_since > limit and not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: errors.MooringError) -> None:
        """Answer without a handler, then close: what follows on this connection can't be trusted."""
        cycle: Any = self.cycle
        self.writes.flush()
        if self.transport.is_closing():
            return
        if cycle is None or cycle.response_complete:  # else an answer is on its way, and this would end up inside it
            request_id = ids.time_uuid()
            body = orjson.dumps(error.body(request_id=request_id))
            head = [STATUS_LINE[error.status], b"content-type: application/json\r\nconnection: close\r\n"]
            head += [b"%b: %b\r\n" % item for item in (*self.server_state.default_headers, *SAFE_HEADERS)]
            head.append(b"x-request-id: %b\r\n" % request_id.encode())
            head += [f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in error.headers.items()]
            head.append(b"content-length: %d\r\n\r\n" % len(body))
            self.transport.write(b"".join(head) + body)
        self.transport.close()


def _too_large() -> errors.BadRequest:
    # 400 and not 431: the published clients have a typed error for it (contract §1).
    return errors.BadRequest(f"the headers are larger than {HEADER_LIMIT} bytes", code="HeadersTooLargeError")


class Listener:
    """An open port. `stop` lets running requests end."""

    def __init__(self, server: asyncio.Server, state: ServerState) -> None:
        self._server = server
        self._state = state
        self._task = asyncio.create_task(self._tick(), name="listener")

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> list[EdgeProtocol]:
        """What is open."""
        return list(self._state.connections)  # type: ignore[arg-type]

    async def _tick(self) -> None:
        passed = 0
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)
            passed += 1
            if passed % SWEEP_SECONDS == 0:
                self.sweep()

    def sweep(self) -> None:
        """Close the connections that nothing comes from."""
        now = time.monotonic()
        for connection in self.connections:
            connection.sweep(now)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, let what runs end within `seconds`, then cancel it."""
        self._server.close()
        gathered(asyncio.get_running_loop()).flush()
        for connection in self.connections:
            connection.shutdown()
        deadline = time.monotonic() + seconds
        while self._state.tasks and time.monotonic() < deadline:
            await asyncio.wait(list(self._state.tasks), timeout=max(0.0, deadline - time.monotonic()))
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=1)
        for connection in self.connections:
            connection.transport.abort()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def listen(
    app: AsgiApp,
    *,
    host: str,
    port: int,
    hot_prefix: bytes = b"\0",
    hot: HotHandler | None = None,
    trusted_proxies: Sequence[Network] = (),
) -> Listener:
    """Serve an ASGI application, and the hot path beside it. Raises OSError when the address can't be listened on.

    Several processes may share a port (SO_REUSEPORT); the kernel spreads connections over them.
    """
    config = Config(
        app,
        loop="none",
        http=EdgeProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE_SECONDS),
    )
    config.load()
    state = ServerState()
    handler = hot if hot is not None else _never

    def protocol() -> EdgeProtocol:
        return EdgeProtocol(config, state, hot_prefix, handler, trusted_proxies)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, host, port, backlog=BACKLOG, reuse_port=True)
    return Listener(server, state)


async def _never(_exchange: Exchange) -> None:
    raise AssertionError("no hot path was given")
