"""HTTP/1.1 at its edges, over raw sockets: kept connections, stray bytes, cancelled calls, back-pressure."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

import psutil  # type: ignore[import-untyped]
import pytest
import uvloop

from mooring.kit import http_pool
from mooring.kit.egress import EgressGuard
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest, StreamedResponse
from tests.kit.origin import OK, Handler, answering, client, serving, wait_closed


class Scripted:
    """Answer the n-th request on each connection by the n-th step; a step of None hangs up without an answer."""

    def __init__(self, *steps: bytes | None, linger: bool = True) -> None:
        self.steps = steps
        self.linger = linger
        self.connections = 0
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for step in self.steps:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"content-length: 4" in head.lower():
                head += await reader.readexactly(4)
            self.requests.append(head)
            if step is None:
                return
            writer.write(step)
            await writer.drain()
        if self.linger:
            await reader.read()


async def get(http: HttpClient, port: int, method: str = "GET", body: bytes | None = None) -> bytes:
    response = await http.stream(OutboundRequest(method, f"http://api.test:{port}/x", (), body), first_byte=2, idle=2)
    return b"".join([chunk async for chunk in response.chunks()])


# --- kept connections ---


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", b"body"), ("DELETE", None), ("PROPFIND", b"body")])
async def test_an_idempotent_request_survives_a_stale_connection(method: str, body: bytes | None) -> None:
    server = Scripted(OK, None)
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        assert await get(http, port, method, body) == b"ok"
    assert server.connections == 2
    assert [request.split(b" ")[0].decode() for request in server.requests] == ["GET", method, method]
    assert server.requests[1] == server.requests[2]


async def test_a_post_is_never_sent_twice() -> None:
    server = Scripted(OK, None)
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        with pytest.raises(HttpFailure) as failure:
            await get(http, port, "POST", b"body")
    assert (failure.value.kind, failure.value.sent) == ("reset", True)
    assert len(server.requests) == 2


async def test_a_streamed_body_is_never_sent_twice() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"body"

    server = Scripted(OK, None)
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        request = OutboundRequest("PUT", f"http://api.test:{port}/", [("content-length", "4")], body())
        with pytest.raises(HttpFailure) as failure:
            await http.send(request, deadline=2)
    assert failure.value.kind == "reset"
    assert len(server.requests) == 2


async def test_the_retry_is_one_and_a_half_answer_is_not_retried() -> None:
    server = Scripted(OK, b"HTTP/1.1 2")
    server.linger = False
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        with pytest.raises(HttpFailure) as failure:
            await get(http, port)
        assert failure.value.kind == "reset"
        assert len(server.requests) == 2
    never = Scripted(None)
    async with serving(never) as port, client(port) as http:
        with pytest.raises(HttpFailure):
            await get(http, port)
    assert len(never.requests) == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_even_for_a_post() -> None:
    server = Scripted(OK)
    server.linger = False
    async with serving(server) as port, client(port) as http:
        for pause in (0.05, 0):
            assert await get(http, port, "POST", b"body") == b"ok"
            await asyncio.sleep(pause)
        await asyncio.sleep(0.05)
        assert await get(http, port, "POST", b"body") == b"ok"
        assert http._pool.idle <= 1


@pytest.mark.parametrize(
    "stray",
    [
        b"H",
        b"garbage",
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pause", [None, 0.05])
async def test_bytes_after_an_answer_never_reach_the_next_caller(stray: bytes, pause: float | None) -> None:
    gone = asyncio.Event()
    connections = 0

    async def pushy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if pause is None:
            writer.write(OK + stray)
        else:
            writer.write(OK)
            await asyncio.sleep(pause)
            writer.write(stray)
        await wait_closed(reader, gone)

    async with serving(pushy) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        async with asyncio.timeout(1):
            await gone.wait()
        assert await get(http, port) == b"ok"
        assert connections == 2


async def test_bytes_that_come_between_two_turns_of_the_loop_are_seen_before_a_post() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(2)
        port = listener.getsockname()[1]

        def serve() -> socket.socket:
            peer, _ = listener.accept()
            peer.recv(65536)
            peer.sendall(OK)
            return peer

        async with client(port) as http:
            serving_one = asyncio.create_task(asyncio.to_thread(serve))
            assert await get(http, port) == b"ok"
            peer = await serving_one
            # Nothing is awaited between these two, so the loop cannot know yet; only the kernel does.
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            call = asyncio.create_task(get(http, port, "POST", b"body"))
            (await asyncio.to_thread(serve)).close()
            assert await call == b"ok"
            peer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_connections_that_end_with_their_answer_are_not_kept(answer: bytes) -> None:
    server = Scripted(answer, answer)
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) in {b"ok", b""}
        assert http._pool.idle == 0
        await get(http, port)
    assert server.connections == 2


async def test_answers_that_leave_the_connection_clean_keep_it() -> None:
    steps = [
        OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Trailer: t\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
    ]
    server = Scripted(*steps)
    async with serving(server) as port, client(port) as http:
        for step in steps:
            response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=2, idle=2)
            assert await response.whole() == (b"" if step.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")) else b"ok")
            assert not any(name in {b"x-trailer", b"link"} for name, _ in response.raw_headers)
        assert server.connections == 1


async def test_head_keeps_its_connection_and_is_not_fooled_by_a_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    server = Scripted(head, head, OK, head + b"a body after all")
    async with serving(server) as port, client(port) as http:
        for method in ("HEAD", "HEAD", "GET", "HEAD"):
            assert await get(http, port, method) == (b"ok" if method == "GET" else b"")
        assert server.connections == 1
        assert http._pool.idle == 0
        assert await get(http, port, "HEAD") == b""
        assert server.connections == 2


async def test_an_upgrade_is_refused() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw"
    async with serving(answering(answer)) as port, client(port) as http:
        with pytest.raises(HttpFailure) as failure:
            await get(http, port)
    assert failure.value.kind == "protocol"
    with pytest.raises(ValueError, match="CONNECT"):
        async with client(1) as http:
            await http.send(OutboundRequest("CONNECT", "http://api.test:1/"), deadline=1)


async def test_a_body_without_length_ends_with_its_connection() -> None:
    server = Scripted(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nall of it", linger=False)
    async with serving(server) as port, client(port) as http:
        assert await get(http, port) == b"all of it"
        assert (await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=2)).body == b"all of it"

    async def torn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(torn) as port, client(port) as http:
        with pytest.raises(HttpFailure) as failure:
            await get(http, port)
    assert failure.value.kind == "reset"


async def test_kept_connections_are_closed_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(http_pool, "_SWEEP_SECONDS", 0.1)
    gone = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await wait_closed(reader, gone)

    async with serving(one) as port, client(port) as http:
        assert await get(http, port) == b"ok"
        assert http._pool.idle == 1
        async with asyncio.timeout(2):
            await gone.wait()
        assert (http._pool.idle, http._pool.live) == (0, set())


async def test_kept_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "IDLE_LIMIT", 3)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(OK)

    async with serving(slow) as port, client(port) as http:
        assert await asyncio.gather(*[get(http, port) for _ in range(12)]) == [b"ok"] * 12
        assert http._pool.idle <= 3


async def test_closing_the_client_ends_calls_in_flight() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.sleep(9)

    async with serving(silent) as port, client(port) as http:
        call = asyncio.create_task(get(http, port))
        await asyncio.sleep(0.1)
        await http.aclose()
        with pytest.raises(HttpFailure) as failure:
            await call
    assert failure.value.kind == "reset"


@pytest.mark.parametrize(
    "tail", [b"0\r\nX-Trailer: " + b"a" * (1 << 24), b"5;x=" + b"a" * (1 << 24), b"0\r\n" + b"X: y\r\n" * (1 << 18)]
)
async def test_trailers_and_extensions_without_end_are_cut(tail: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    async with serving(answering(answer + tail)) as port, client(port) as http:
        with pytest.raises(HttpFailure) as failure:
            await get(http, port)
    assert failure.value.kind == "protocol"


async def test_a_server_that_closes_at_once_gets_nothing() -> None:
    async def slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(slam) as port, client(port) as http:
        for method in ("GET", "POST") * 10:
            with pytest.raises(HttpFailure) as failure:
                await get(http, port, method)
            assert failure.value.kind == "reset"


# --- without waiting ---


async def test_a_body_that_came_with_its_head_is_there_at_once() -> None:
    async with serving(answering(OK)) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=2, idle=2)
        assert response.small
        assert http._pool.idle == 1  # the connection is back before the caller even looks
        assert response.taken() == b"ok"
        await response.aclose()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await asyncio.sleep(0.2)
        writer.write(OK[-1:])
        await reader.read()

    async with serving(late) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=2, idle=2)
        assert response.taken() is None
        assert await response.whole() == b"ok"
        assert http._pool.idle == 1


async def test_header_bytes_go_out_as_given() -> None:
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port, client(port) as http:
        raw = [(b"X-Raw", b"caf\xe9\t!"), (b"host", b"evil.test"), (b"transfer-encoding", b"chunked")]
        await http.send(OutboundRequest("GET", f"http://api.test:{port}/", [("a", "b")], None, raw), deadline=2)
        for bad in ((b"x", b"a\r\nb: c"), (b"x", b"a\nb"), (b"x", b"a\0"), (b"x y", b"a"), (b"x:", b"a"), (b"", b"")):
            with pytest.raises(ValueError, match="characters"):
                await http.send(OutboundRequest("GET", f"http://api.test:{port}/", (), None, [bad]), deadline=2)
    assert len(seen) == 1
    assert seen[0].split(b"\r\n")[2:-2] == [b"a: b", b"X-Raw: caf\xe9\t!", b"User-Agent: Mooring/test"]


# --- cancellation ---


async def chunks_of(response: StreamedResponse) -> None:
    async for _ in response.chunks():
        pass


@pytest.mark.parametrize("how", ["send", "stream", "send body", "stream body"])
async def test_a_cancelled_call_closes_its_connection_at_once(how: str) -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if "body" in how:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        asked.set()
        await wait_closed(reader, gone)

    async with serving(silent) as port, client(port) as http:
        request = OutboundRequest("GET", f"http://api.test:{port}/")

        async def run() -> None:
            if how.startswith("send"):
                await http.send(request, deadline=9)
            else:
                await chunks_of(await http.stream(request, first_byte=9, idle=9))

        call = asyncio.create_task(run())
        await asked.wait()
        await asyncio.sleep(0.05)
        call.cancel()
        started = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(1):
            await gone.wait()
        assert asyncio.get_running_loop().time() - started < 0.1
        assert http._pool.live == set()


async def test_a_cancelled_handshake_closes_its_socket() -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await wait_closed(reader, gone)

    async with serving(mute) as port, client(port) as http:
        call = asyncio.create_task(http.send(OutboundRequest("GET", f"https://api.test:{port}/"), deadline=9))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(1):
            await gone.wait()


async def test_a_deadline_closes_the_connection_too() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await wait_closed(reader, gone)

    async with serving(silent) as port, client(port) as http:
        with pytest.raises(HttpFailure, match="within"):
            await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=0.1)
        async with asyncio.timeout(1):
            await gone.wait()


# --- uploads and back-pressure ---


async def test_a_complete_early_answer_stops_the_upload_and_closes() -> None:
    gone, ended = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await wait_closed(reader, gone)

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with serving(refuse) as port, client(port) as http:
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), endless())
        response = await http.send(request, deadline=2)
        assert (response.status, response.body) == (413, b"no")
        async with asyncio.timeout(1):
            await ended.wait()
            await gone.wait()
        assert http._pool.idle == 0


async def test_a_slow_reader_holds_the_provider_back() -> None:
    size = 64 << 20
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while written < size:
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()
        await reader.read()

    process = psutil.Process()
    before = process.memory_info().rss
    async with serving(flood) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=5, idle=0.3)
        await asyncio.sleep(0.5)  # longer than `idle`: a reader that takes its time is no fault of the provider
        assert written < 16 << 20
        received, peak = 0, 0
        async for chunk in response.chunks():
            received += len(chunk)
            peak = max(peak, process.memory_info().rss - before)
            if received < 1 << 20:
                await asyncio.sleep(0.05)
        assert received == size
        assert peak < 24 << 20
        assert http._pool.idle == 1


async def test_a_large_body_in_one_piece_goes_out_whole() -> None:
    body = bytes(range(256)) * 4096 * 8
    seen: list[bytes] = []

    async def reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readexactly(len(body)))
        writer.write(OK)
        await reader.read()

    async with serving(reading) as port, client(port) as http:
        assert (
            await http.send(OutboundRequest("POST", f"http://api.test:{port}/", (), body), deadline=5)
        ).body == b"ok"
        assert http._pool.idle == 1
    assert seen == [body]


async def test_ipv6_and_the_default_port_in_host() -> None:
    seen: list[bytes] = []
    handler: Handler = answering(OK, seen)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    http = HttpClient(EgressGuard(frozenset({("::1", port)})), user_agent="x")
    assert (await http.send(OutboundRequest("GET", f"http://[::1]:{port}/"), deadline=2)).body == b"ok"
    await http.aclose()
    server.close()
    assert f"Host: [::1]:{port}\r\n".encode() in seen[0]


async def test_checked_addresses_are_asked_for_again_when_they_fail() -> None:
    asked = 0

    async def two(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1", "127.0.0.9"]

    async with serving(answering(OK)) as port:
        guard = EgressGuard(frozenset({("api.test", port)}), two)
        http = HttpClient(guard, user_agent="x")
        assert await get(http, port) == b"ok"
        parts = guard.split(f"http://api.test:{port}/")
        target = guard.known(parts, asyncio.get_running_loop().time())
        assert target is not None
        assert target.ip == "127.0.0.1"
        guard.demote(target)
        assert guard.known(parts, asyncio.get_running_loop().time()) is None
        assert (await guard.check(f"http://api.test:{port}/")).ip == "127.0.0.9"
        assert asked == 1
        await http.aclose()


EDGES = [
    test_a_post_is_never_sent_twice,
    test_a_connection_that_the_server_closed_meanwhile_is_not_used_even_for_a_post,
    test_bytes_that_come_between_two_turns_of_the_loop_are_seen_before_a_post,
    test_answers_that_leave_the_connection_clean_keep_it,
    test_head_keeps_its_connection_and_is_not_fooled_by_a_body,
    test_a_body_without_length_ends_with_its_connection,
    test_a_server_that_closes_at_once_gets_nothing,
    test_a_cancelled_handshake_closes_its_socket,
    test_a_deadline_closes_the_connection_too,
    test_a_complete_early_answer_stops_the_upload_and_closes,
    test_a_slow_reader_holds_the_provider_back,
    test_closing_the_client_ends_calls_in_flight,
]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.__name__)
def test_the_edges_hold_on_uvloop_as_well(edge: Callable[[], Coroutine[None, None, None]]) -> None:
    """The hub runs on uvloop; the tests above run on asyncio's own loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(edge())


@pytest.mark.parametrize("how", ["send", "stream", "send body", "stream body"])
def test_cancelling_closes_at_once_on_uvloop_as_well(how: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_cancelled_call_closes_its_connection_at_once(how))
