"""The way in, over bare sockets: limits, framing, pipelining, and a caller that goes away, on both roads."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mooring.kit import server
from mooring.kit.exchange import CallerGoneError, Exchange
from mooring.kit.server import AsgiApp, Listener, Receive, Scope, Send, listen
from tests.servers.ports import free_port

Hot = Callable[[Exchange], Awaitable[None]]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The framework's side: method, path and size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = json.dumps([scope["method"], scope["path"], size]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hot_echo(exchange: Exchange) -> None:
    body = await exchange.read(1 << 20)
    exchange.respond(200, [(b"x-road", b"hot")], b"%s %s %d" % (exchange.method.encode(), exchange.target, len(body)))


@asynccontextmanager
async def serving(hot: Hot = hot_echo, app: AsgiApp = echo) -> AsyncIterator[tuple[Listener, int]]:
    port = free_port()
    listener = await listen(app, host="127.0.0.1", port=port, hot_prefix=b"/hot", hot=hot)
    try:
        yield listener, port
    finally:
        await listener.stop(1)


async def talk(port: int, *pieces: bytes, pause: float = 0.02) -> bytes:
    """Send the pieces, then read until the server closes or says nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    given = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(0.6):
            while chunk := await reader.read(65536):
                given += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return given


HOST = b"host: hub\r\n"


@pytest.mark.parametrize("target", [b"/hot/a?b=c", b"/cold"])
async def test_a_request_in_any_pieces_is_one_request(target: bytes) -> None:
    request = b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nhello"
    async with serving() as (_, port):
        for at in (1, 7, len(request) - 5, len(request) - 1):
            given = await talk(port, request[:at], request[at:])
            assert given.startswith(b"HTTP/1.1 200 OK\r\n")
            assert given.endswith(b"POST /hot/a?b=c 5" if target.startswith(b"/hot") else b'["POST", "/cold", 5]')


async def test_pipelined_requests_are_answered_in_order_on_both_roads() -> None:
    one = b"GET /hot/%d HTTP/1.1\r\n" + HOST + b"\r\n"
    other = b"GET /cold/%d HTTP/1.1\r\n" + HOST + b"\r\n"
    async with serving() as (_, port):
        given = await talk(port, one % 1 + other % 2 + one % 3 + one % 4 + other % 5)
        places = [given.index(mark) for mark in (b"/hot/1", b"/cold/2", b"/hot/3", b"/hot/4", b"/cold/5")]
        assert places == sorted(places) and given.count(b"HTTP/1.1 200 OK") == 5


async def test_an_absolute_target_is_accepted() -> None:
    async with serving() as (_, port):
        given = await talk(port, b"GET http://any/hot/x?y HTTP/1.1\r\n" + HOST + b"\r\n")
        assert given.endswith(b"GET /hot/x?y 0")


BAD = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "a method nobody knows": (b"FROB /hot HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "no Host": (b"GET /hot HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /hot HTTP/1.1\r\n" + HOST * 2 + b"\r\n", 400),
    "both framings": (
        b"POST /hot HTTP/1.1\r\n" + HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST /hot HTTP/1.1\r\n" + HOST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
    "a length that is none": (b"POST /hot HTTP/1.1\r\n" + HOST + b"content-length: +1\r\n\r\n", 400),
    "a space before the colon": (b"GET /hot HTTP/1.1\r\n" + HOST + b"x : y\r\n\r\n", 400),
    "a bare line feed": (b"GET /hot HTTP/1.1\nhost: hub\nx: y\n\n", 400),
    "NUL in a value": (b"GET /hot HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n", 400),
    "a long header": (b"GET /hot HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 40_000 + b"\r\n\r\n", 400),
    "many headers": (b"GET /cold HTTP/1.1\r\n" + HOST + b"x: yyyyyyyyyy\r\n" * 4_000 + b"\r\n", 400),
    "a header without end": (b"GET /hot HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 80_000, 400),
    "a bad chunk": (b"POST /hot HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 0),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_good_request_is_refused_in_our_shape_and_ends_the_connection(name: str) -> None:
    request, status = BAD[name]
    async with serving() as (_, port):
        given = await talk(port, request, b"GET /hot/next HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b"/hot/next" not in given
        if not status:  # a handler was at work already: nothing may look like its answer
            assert given == b"" or given.startswith(b"HTTP/1.1 4")
            return
        head, _, body = given.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), given
        assert b"\r\nconnection: close" in head and b"\r\nx-request-id: " in head
        assert json.loads(body)["statusCode"] == status


async def test_half_a_head_is_given_up_on() -> None:
    async with serving() as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hot HTTP/1.1\r\nx: ")
        await asyncio.sleep(0.05)
        (connection,) = listener.connections
        connection.waiting_since -= server.HEAD_SECONDS - 1
        listener.sweep()
        assert not connection.transport.is_closing()
        connection.waiting_since -= 2
        listener.sweep()
        assert await reader.read() == b""
        writer.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    began, end = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        began.set()
        await end.wait()
        exchange.respond(200, [], b"done")

    async with serving(slow) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hot HTTP/1.1\r\n" + HOST + b"\r\n")
        await began.wait()
        (connection,) = listener.connections
        connection.waiting_since -= 1000
        listener.sweep()
        end.set()
        assert b"done" in await reader.read(1000)
        connection.waiting_since -= server.IDLE_SECONDS + 1
        listener.sweep()
        assert await reader.read() == b""
        writer.close()


async def test_a_caller_that_leaves_cancels_what_runs_for_it() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def slow(exchange: Exchange) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.set_result("cancelled" if exchange.disconnected else "stopped")

    async with serving(slow) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /hot HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.sleep(0.05)
        writer.close()
        async with asyncio.timeout(2):
            assert await ended == "cancelled"


async def test_pieces_for_a_caller_that_left_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Also from an application that sends without a pause, so that the loop can't tell it yet."""
    left = threading.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left.wait(10)
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})

    def call(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset
            caller.sendall(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n")
            caller.recv(10)
        left.set()

    async with serving(app=flood) as (_, port):
        await asyncio.to_thread(call, port)
        await asyncio.sleep(0.1)
    assert "raised exception" not in caplog.text


async def test_a_caller_that_leaves_in_its_upload_is_noticed() -> None:
    ended: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()

    async def take(exchange: Exchange) -> None:
        try:
            async for _ in exchange.chunks():
                pass
        except (CallerGoneError, asyncio.CancelledError) as e:
            ended.set_result(type(e))

    async with serving(take) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /hot HTTP/1.1\r\n" + HOST + b"content-length: 100\r\n\r\nhalf")
        await asyncio.sleep(0.05)
        writer.close()
        async with asyncio.timeout(2):
            await ended


async def test_a_body_comes_no_faster_than_it_is_read() -> None:
    most = 0

    async def slowly(exchange: Exchange) -> None:
        nonlocal most
        size = 0
        async for chunk in exchange.chunks():
            most = max(most, len(chunk), len(exchange.body))
            size += len(chunk)
            await asyncio.sleep(0.001)
        exchange.respond(200, [], b"%d" % size)

    async with serving(slowly) as (_, port):
        given = await talk(port, b"PUT /hot HTTP/1.1\r\n" + HOST + b"content-length: 8388608\r\n\r\n", b"x" * 8388608)
        assert given.endswith(b"8388608")
        assert most < 1 << 20


async def test_expect_100_continue_is_answered_when_the_body_is_wanted() -> None:
    head = b"PUT /hot HTTP/1.1\r\n" + HOST + b"content-length: 2\r\nexpect: 100-continue\r\n\r\n"
    async with serving() as (_, port):
        given = await talk(port, head, b"ab")
        assert given.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_line", "ending"),
    [
        (b"GET /hot HTTP/1.1\r\nhost: h\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"GET /hot HTTP/1.0\r\n", b"\r\n\r\nabc"),
        (b"GET /hot HTTP/1.0\r\nconnection: keep-alive\r\n", b"\r\n\r\nabc"),
    ],
)
async def test_an_answer_of_unknown_length(request_line: bytes, ending: bytes) -> None:
    async def stream(exchange: Exchange) -> None:
        exchange.begin(200, [], length=None, has_body=True)
        await exchange.send(b"abc")
        exchange.end()

    async with serving(stream) as (_, port):
        given = await talk(port, request_line + b"\r\n")
        assert given.endswith(ending)
        assert (b"connection: close" in given) == (b"HTTP/1.0" in request_line)


async def test_an_answer_that_breaks_its_announced_length_is_cut() -> None:
    async def lie(exchange: Exchange) -> None:
        exchange.begin(200, [], length=10, has_body=True)
        await exchange.send(b"abc")
        exchange.cut()

    async with serving(lie) as (_, port):
        given = await talk(port, b"GET /hot HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b"content-length: 10" in given and given.endswith(b"abc")


async def test_an_application_that_fails_or_says_nothing_breaks_the_connection() -> None:
    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async with serving(app=silent) as (_, port):
        assert await talk(port, b"GET /cold HTTP/1.1\r\n" + HOST + b"\r\n") == b""


async def test_a_stop_lets_a_running_call_end_and_takes_no_new_one() -> None:
    began = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        began.set()
        await asyncio.sleep(0.2)
        exchange.respond(200, [], b"done")

    port = free_port()
    listener = await listen(echo, host="127.0.0.1", port=port, hot_prefix=b"/hot", hot=slow)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /hot HTTP/1.1\r\n" + HOST + b"\r\n")
    await began.wait()
    stopping = asyncio.create_task(listener.stop(5))
    given = await reader.read()
    assert b"connection: close" in given and given.endswith(b"done")
    await stopping
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.close()
