"""The HTTP client against real sockets: faults, framing, streams, pins and TLS."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from mooring.kit.egress import EgressGuard
from mooring.kit.http import BufferedResponse, HttpClient, HttpFailure, OutboundRequest
from tests.kit.origin import OK, Authority, Handler, answering, client, localhost, serving, wait_closed


async def ask(handler: Handler, request: OutboundRequest | None = None, **limits: float) -> BufferedResponse:
    async with serving(handler) as port, client(port) as http:
        url = f"http://api.test:{port}/path?token=s3cret"
        request = request or OutboundRequest("GET", url)
        return await http.send(
            OutboundRequest(request.method, url, request.headers, request.body),
            **{"deadline": 3, **limits},  # type: ignore[arg-type]
        )


async def failing(handler: Handler, request: OutboundRequest | None = None, **limits: float) -> HttpFailure:
    with pytest.raises(HttpFailure) as failure:
        await ask(handler, request, **limits)
    assert "s3cret" not in str(failure.value)
    assert "api.test" in str(failure.value)
    return failure.value


def lines(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")


# --- what is sent ---


async def test_request_goes_out_as_given() -> None:
    seen: list[bytes] = []
    headers = [
        ("X-One", "1"),
        ("x-one", "2"),
        ("Accept", "a/b"),
        ("Accept-Encoding", "br"),
        ("X-Utf8", "é日"),
        ("Host", "evil.test"),
        ("Expect", "100-continue"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Connection", "close"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
    ]
    response = await ask(answering(OK, seen), OutboundRequest("POST", "", headers, b"hello"))
    assert (response.status, response.body, response.header("Content-Length")) == (200, b"ok", "2")
    assert 0 <= response.elapsed_ms < 3000
    sent = {line.lower() for line in lines(seen[0])[1:]}
    host = next(line for line in sent if line.startswith(b"host:"))
    assert host.startswith(b"host: api.test:")
    assert sent - {host} == {
        b"x-one: 1",
        b"x-one: 2",
        b"accept: a/b",
        b"accept-encoding: br",
        "x-utf8: é日".encode(),
        b"user-agent: mooring/test",
        b"content-length: 5",
    }
    assert seen[0].endswith(b"\r\n\r\nhello")


async def test_own_user_agent_wins() -> None:
    seen: list[bytes] = []
    await ask(answering(OK, seen), OutboundRequest("GET", "", [("User-Agent", "caller/1")]))
    assert [line for line in lines(seen[0]) if line.lower().startswith(b"user-agent")] == [b"User-Agent: caller/1"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_absent_body_is_announced(method: str) -> None:
    seen: list[bytes] = []
    await ask(answering(OK, seen), OutboundRequest(method, ""))
    await ask(answering(OK, seen), OutboundRequest(method, "", [("content-length", "7")], b""))
    for request in seen:
        assert request.lower().count(b"content-length: 0\r\n") == 1
        assert request.lower().count(b"content-length") == 1


@pytest.mark.parametrize("method", ["GET", "DELETE", "PROPFIND", "MKCALENDAR", "REPORT", "OPTIONS"])
async def test_any_method_passes_with_and_without_body(method: str) -> None:
    seen: list[bytes] = []
    await ask(answering(OK, seen), OutboundRequest(method, ""))
    await ask(answering(OK, seen), OutboundRequest(method, "", (), b"body"))
    assert [request.split(b" ")[0].decode() for request in seen] == [method, method]
    assert b"content-length" not in seen[0].lower()
    assert seen[1].endswith(b"body")


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb?x=%2f",
        "/a%20b?q=a%20b+c",
        "/[x]|^;=,'@:!$&()*+~?[x]|^`{}&",
        "/%C3%A9/%c3%a9?%C3%A9",
        "/%252e%252e/%25",
        "/x//y/",
        "/%zz%",
        "/x?",
        "/?a=../b&c=//d?e",
        "/...",
        "/a%5Cb",
        "/a%00b",
    ],
)
async def test_urls_go_out_byte_for_byte(target: str) -> None:
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port, client(port) as http:
        await http.send(OutboundRequest("GET", f"http://api.test:{port}{target}"), deadline=3)
    assert lines(seen[0])[0] == f"GET {target} HTTP/1.1".encode()


async def test_what_no_url_may_hold_is_encoded_as_documented() -> None:
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port, client(port) as http:
        await http.send(OutboundRequest("GET", f'http://api.test:{port}/"<>`{{}}é?\'"<>\\é'), deadline=3)
        await http.send(OutboundRequest("GET", f"http://api.test:{port}?q"), deadline=3)
    assert lines(seen[0])[0] == b"GET /%22%3C%3E%60%7B%7D%C3%A9?%27%22%3C%3E%5C%C3%A9 HTTP/1.1"
    assert lines(seen[1])[0] == b"GET /?q HTTP/1.1"


@pytest.mark.parametrize(
    "request_",
    [
        OutboundRequest("GET", "", [("x", "a\r\nInjected: 1")]),
        OutboundRequest("GET", "", [("x", "a\nb")]),
        OutboundRequest("GET", "", [("x", "a\0b")]),
        OutboundRequest("GET", "", [("x\r\ny", "a")]),
        OutboundRequest("GET", "", [("", "a")]),
        OutboundRequest("GET / HTTP/1.1\r\nX: y", ""),
    ],
)
async def test_injection_is_refused_before_anything_is_sent(request_: OutboundRequest) -> None:
    seen: list[bytes] = []
    with pytest.raises(ValueError, match="characters") as fault:
        await ask(answering(OK, seen), request_)
    assert "Injected" not in str(fault.value)
    assert seen == []


def test_repr_holds_no_secret() -> None:
    request = OutboundRequest("GET", "https://h.example/p?token=s3cret", [("authorization", "s3cret")], b"s3cret")
    assert "s3cret" not in repr(request)


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    async with serving(answering(OK, asked)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        assert (await ask(answering(OK))).status == 200
    assert asked == []


# --- streamed request bodies ---


async def pieces(*chunks: bytes, delay: float = 0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(delay)
        yield chunk


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_streamed_body_is_chunked_or_keeps_its_length(method: str) -> None:
    seen: list[bytes] = []
    await ask(answering(OK, seen), OutboundRequest(method, "", (), pieces(b"one", b"", b"two")))
    assert b"\r\ntransfer-encoding: chunked" in seen[0].lower()
    assert b"content-length" not in seen[0].lower()
    assert seen[0].endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    await ask(answering(OK, seen), OutboundRequest(method, "", [("Content-Length", "6")], pieces(b"one", b"two")))
    assert b"transfer-encoding" not in seen[1].lower()
    assert seen[1].lower().count(b"content-length: 6") == 1
    assert seen[1].endswith(b"\r\n\r\nonetwo")


@pytest.mark.parametrize("length", ["5", "7"])
async def test_a_body_that_belies_its_length_ends_the_call(length: str) -> None:
    with pytest.raises((ValueError, HttpFailure)):
        await ask(answering(OK), OutboundRequest("POST", "", [("Content-Length", length)], pieces(b"one", b"two")))


async def test_faults_of_the_callers_body_pass_through() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("the caller went away")

    with pytest.raises(LookupError):
        await ask(answering(OK), OutboundRequest("POST", "", (), broken()))
    async with serving(answering(OK)) as port, client(port) as http:
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), broken())
        with pytest.raises(LookupError):
            await http.stream(request, first_byte=2, idle=2)


async def test_both_directions_stream_with_back_pressure_and_byte_exact() -> None:
    piece = bytes(range(256)) * 256  # 64 KiB
    count = 1024
    pulled = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(count):
            pulled += 1
            yield piece

    release = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count * len(piece)}\r\n\r\n".encode())
        left = count * len(piece)
        while left:
            data = await reader.read(1 << 16)
            left -= len(data)
            writer.write(data)
            await writer.drain()

    process = psutil.Process()
    before = process.memory_info().rss
    async with serving(echo) as port, client(port) as http:
        headers = [("content-length", str(count * len(piece)))]
        request = OutboundRequest("POST", f"http://api.test:{port}/", headers, source())
        call = asyncio.create_task(http.stream(request, first_byte=20, idle=20))
        await asyncio.sleep(0.3)
        assert pulled < 300  # the server reads nothing yet, so most of the body has to wait
        release.set()
        response = await call
        digest, peak = hashlib.sha256(), 0
        async for chunk in response.chunks():
            digest.update(chunk)
            peak = max(peak, process.memory_info().rss - before)
    assert digest.digest() == hashlib.sha256(piece * count).digest()
    assert peak < 48 << 20


async def test_slow_upload_is_not_held_to_the_first_byte_deadline() -> None:
    async with serving(answering(OK)) as port, client(port) as http:
        body = pieces(*[b"x"] * 8, delay=0.1)
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), body)
        response = await http.stream(request, first_byte=0.4, idle=0.4)
        assert response.status == 200
        await response.aclose()


async def test_upload_that_stands_still_ends_the_call() -> None:
    async with serving(answering(OK)) as port, client(port) as http:
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), pieces(b"a", b"b", delay=1))
        with pytest.raises(HttpFailure, match="stood still") as failure:
            await http.stream(request, first_byte=0.2, idle=0.2)
        assert failure.value.kind == "timeout"
        assert failure.value.sent


async def test_early_answer_ends_the_upload() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        while await reader.read(1 << 16):
            pass

    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with serving(refuse) as port, client(port) as http:
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), endless())
        response = await http.stream(request, first_byte=2, idle=2)
        assert response.status == 413
        assert [chunk async for chunk in response.chunks()] == [b"no"]
        async with asyncio.timeout(2):
            await ended.wait()


# --- answers ---


async def test_head_204_304_and_early_hints() -> None:
    head = await ask(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"), OutboundRequest("HEAD", ""))
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "5000000")
    assert (await ask(answering(b"HTTP/1.1 204 No Content\r\n\r\n"))).status == 204
    unchanged = await ask(answering(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9000000\r\nETag: x\r\n\r\n"))
    assert (unchanged.status, unchanged.header("ETag")) == (304, "x")
    assert (await ask(answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK))).body == b"ok"
    for answer, method in ((b"HTTP/1.1 204 No Content\r\n\r\n", "GET"), (OK[:-2], "HEAD")):
        async with serving(answering(answer)) as port, client(port) as http:
            request = OutboundRequest(method, f"http://api.test:{port}/")
            response = await http.stream(request, first_byte=2, idle=2)
            assert [chunk async for chunk in response.chunks()] == []


async def test_repeated_headers_cookies_and_compression_come_through_untouched() -> None:
    packed = gzip.compress(b"a" * 1000)
    answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nLINK: <a>\r\nset-cookie: b=2\r\nLink: <b>\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: " + str(len(packed)).encode() + b"\r\n\r\n" + packed
    )
    seen: list[bytes] = []
    async with serving(answering(answer, seen)) as port, client(port) as http:
        for _ in range(2):
            response = await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=3)
    assert response.body == packed
    assert [value for name, value in response.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert [value for name, value in response.headers if name == "link"] == ["<a>", "<b>"]
    assert response.header("Content-Encoding") == "gzip"
    assert b"cookie" not in seen[1].lower()


async def test_header_bytes_outside_ascii_pass() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nX-B: \xc3\xa9\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(answer)) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=2, idle=2)
        assert response.raw_headers == [(b"x-a", b"caf\xe9"), (b"x-b", b"\xc3\xa9"), (b"content-length", b"2")]
        assert response.headers[0] == ("x-a", "caf\xe9")
        await response.aclose()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: \r\n",
        b"Content-Length : 3\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X: a\r\n Content-Length: 3\r\n",
        b"X: a\rContent-Length: 3\r\n",
        b"X: a\0b\r\n",
        b"X: " + b"a" * 70_000 + b"\r\n",
        b"X: a\r\n" * 20_000,
    ],
)
async def test_ambiguous_framing_is_refused_and_its_connection_dropped(head: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n3\r\nabc\r\n0\r\n\r\n"
    failure = await failing(answering(answer))
    assert (failure.kind, failure.sent) == ("protocol", True)


async def test_redirects_are_not_followed() -> None:
    followed: list[bytes] = []
    async with serving(answering(OK, followed)) as other:
        for status in (301, 302, 303, 307, 308):
            location = f"HTTP/1.1 {status} R\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n"
            response = await ask(answering(location.encode()), OutboundRequest("POST", "", (), b"secret"))
            assert response.status == status
    assert followed == []


async def test_json() -> None:
    def response(body: bytes) -> BufferedResponse:
        return BufferedResponse(200, [], body, 1)

    assert response(b'{"a": [1]}').json() == {"a": [1]}
    for body in (b"<html>", b'{"a":', b"", b"\xff", b"[" * 100_000):
        with pytest.raises(ValueError):
            response(body).json()


async def test_head_of_a_stream_does_not_wait_for_its_body() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.2)
            writer.write(b"3\r\nabc\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with serving(slow) as port, client(port) as http:
        started = asyncio.get_running_loop().time()
        request = OutboundRequest("GET", f"http://api.test:{port}/")
        response = await http.stream(request, first_byte=2, idle=1)
        assert asyncio.get_running_loop().time() - started < 0.15
        times = []
        async for chunk in response.chunks():
            assert chunk == b"abc"
            times.append(asyncio.get_running_loop().time() - started)
        assert len(times) == 3
        assert times[0] < 0.35 < times[2]


# --- faults ---


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.sleep(30)


async def loris(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


def closing_after(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handler


CUT_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (reset, "reset"),
        (hang_up, "reset"),
        (hang, "timeout"),
        (loris, "timeout"),
        (closing_after(CUT_LENGTH), "reset"),
        (closing_after(CUT_CHUNK), "reset"),
        (closing_after(b"SSH-2.0-OpenSSH_9.9\r\n"), "protocol"),
        (closing_after(b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n"), "protocol"),
    ],
)
async def test_faults_are_told_apart(handler: Handler, kind: str) -> None:
    started = asyncio.get_running_loop().time()
    failure = await failing(handler, deadline=0.4)
    assert (failure.kind, failure.sent) == (kind, True)
    assert asyncio.get_running_loop().time() - started < 1


@pytest.mark.parametrize(
    ("handler", "kind"), [(closing_after(CUT_LENGTH), "reset"), (closing_after(CUT_CHUNK), "reset")]
)
async def test_a_stream_that_is_cut_says_so(handler: Handler, kind: str) -> None:
    async with serving(handler) as port, client(port) as http:
        request = OutboundRequest("GET", f"http://api.test:{port}/")
        response = await http.stream(request, first_byte=2, idle=2)
        with pytest.raises(HttpFailure) as failure:
            async for chunk in response.chunks():
                assert chunk == b"abc"
    assert failure.value.kind == kind


async def test_stream_deadlines() -> None:
    async with serving(hang) as port, client(port) as http:
        with pytest.raises(HttpFailure) as failure:
            await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=0.2, idle=5)
        assert failure.value.kind == "timeout"

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CUT_LENGTH)
        await writer.drain()
        await asyncio.sleep(30)

    async with serving(stalls) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=5, idle=0.2)
        with pytest.raises(HttpFailure) as failure:
            [chunk async for chunk in response.chunks()]
        assert failure.value.kind == "timeout"


async def test_refused_and_blackholed_connections_have_sent_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with client(port) as http:
            with pytest.raises(HttpFailure) as failure:
                await http.send(OutboundRequest("GET", f"http://api.test:{port}/?s3cret"), deadline=3)
    assert (failure.value.kind, failure.value.sent) == ("refused", False)
    assert "s3cret" not in str(failure.value)

    async with AsyncExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        http = await stack.enter_async_context(client(port, connect_timeout=0.2))
        with pytest.raises(HttpFailure) as failure:
            await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=3)
    assert (failure.value.kind, failure.value.sent) == ("timeout", False)


async def test_dead_address_is_left_for_the_next_one() -> None:
    async def two(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async with serving(answering(OK)) as port:
        http = HttpClient(EgressGuard(frozenset({("api.test", port)}), two), user_agent="x")
        with pytest.raises(HttpFailure):
            await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=3)
        assert (await http.send(OutboundRequest("GET", f"http://api.test:{port}/"), deadline=3)).status == 200
        await http.aclose()


async def test_blocked_and_dns_failures() -> None:
    async def no_such_name(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def private(_host: str, _port: int) -> Sequence[str]:
        return ["8.8.8.8", "127.0.0.1"]

    for resolver, url, kind in (
        (no_such_name, "https://gone.example/", "dns"),
        (private, "https://mixed.example/", "blocked"),
        (private, "https://127.1/", "blocked"),
        (private, "http://plain.example/", "blocked"),
    ):
        http = HttpClient(EgressGuard(frozenset(), resolver), user_agent="x")
        for call in (
            http.send(OutboundRequest("GET", url), deadline=3),
            http.stream(OutboundRequest("GET", url), first_byte=3, idle=3),
        ):
            with pytest.raises(HttpFailure) as failure:
                await call
            assert (failure.value.kind, failure.value.sent) == (kind, False)
        await http.aclose()


async def test_slow_dns_counts_toward_the_deadline() -> None:
    async def slow(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(3)
        return ["8.8.8.8"]

    http = HttpClient(EgressGuard(frozenset(), slow), user_agent="x")
    with pytest.raises(HttpFailure) as failure:
        await http.send(OutboundRequest("GET", "https://slow.example/"), deadline=0.1)
    assert (failure.value.kind, failure.value.sent) == ("timeout", False)
    await http.aclose()


async def test_rebinding_name_stays_on_the_first_address() -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def flipping(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    async def canary(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.append(True)

    reached: list[bool] = []
    async with serving(answering(OK)) as port:
        trap = await asyncio.start_server(canary, "127.0.0.2", port)
        http = HttpClient(EgressGuard(frozenset({("flip.test", port)}), flipping), user_agent="x")
        for _ in range(20):
            assert (await http.send(OutboundRequest("GET", f"http://flip.test:{port}/"), deadline=3)).status == 200
        await http.aclose()
        trap.close()
    assert reached == []
    assert len(answers) == 1


async def test_too_large_answers_are_cut_and_the_connection_dropped() -> None:
    written = 0

    async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while written < 1 << 29:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    failure = await failing(huge, max_bytes=100_000)
    assert (failure.kind, failure.sent) == ("too_large", True)
    assert written < 32 << 20
    for size in (10, 100_000):
        exact = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
        assert len((await ask(answering(exact), max_bytes=size)).body) == size
        assert (await failing(answering(exact), max_bytes=size - 1)).kind == "too_large"


# --- cancellation and the pool ---


async def test_closing_a_stream_early_drops_the_connection() -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        await wait_closed(reader, gone)

    async with serving(endless) as port, client(port) as http:
        response = await http.stream(OutboundRequest("GET", f"http://api.test:{port}/"), first_byte=2, idle=9)
        chunks = response.chunks()
        assert await anext(chunks) == b"abc"
        await response.aclose()
        await response.aclose()
        async with asyncio.timeout(1):
            await gone.wait()
        await chunks.aclose()  # type: ignore[attr-defined]


async def test_cancelling_the_reader_of_a_stream_drops_the_connection() -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        await wait_closed(reader, gone)

    async with serving(endless) as port, client(port) as http:

        async def read() -> None:
            request = OutboundRequest("GET", f"http://api.test:{port}/")
            response = await http.stream(request, first_byte=2, idle=9)
            async for _ in response.chunks():
                pass

        call = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(1):
            await gone.wait()


async def test_cancelling_an_upload_drops_the_connection() -> None:
    gone = asyncio.Event()

    async def sink(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await wait_closed(reader, gone)

    async def waiting() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(30)

    async with serving(sink) as port, client(port) as http:
        request = OutboundRequest("POST", f"http://api.test:{port}/", (), waiting())
        call = asyncio.create_task(http.stream(request, first_byte=9, idle=9))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(1):
            await gone.wait()


async def test_connections_are_reused_and_clients_bounded() -> None:
    connections = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK)(reader, writer)

    async with serving(counted) as port:
        names = [f"h{number}.test" for number in range(6)]
        guard = EgressGuard(frozenset((name, port) for name in names), localhost)
        http = HttpClient(guard, user_agent="x", max_clients=2)

        async def get(name: str) -> None:
            response = await http.stream(OutboundRequest("GET", f"http://{name}:{port}/"), first_byte=3, idle=3)
            assert [chunk async for chunk in response.chunks()] == [b"ok"]

        for _ in range(10):
            await get(names[0])
        assert connections == 1
        held = await http.stream(OutboundRequest("GET", f"http://{names[0]}:{port}/"), first_byte=3, idle=3)
        for name in names[1:]:
            await get(name)
        assert len(http._pool.origins) == 2
        # Its client was evicted meanwhile, but stays open until the stream is read.
        assert [chunk async for chunk in held.chunks()] == [b"ok"]
        await get(names[0])
        await http.aclose()
        assert (http._pool.idle, http._pool.live) == (0, set())


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def https(tls: ssl.SSLContext | None, root: bytes | None) -> BufferedResponse:
    async with serving(answering(OK), tls) as port, client(port, extra_root_pem=root) as http:
        return await http.send(OutboundRequest("GET", f"https://api.test:{port}/?s3cret"), deadline=3)


async def test_tls_with_a_private_authority_names_the_original_host(authority: Authority, tmp_path: Path) -> None:
    names: list[str | None] = []
    tls = authority.context(tmp_path, "api.test")
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    assert (await https(tls, authority.pem)).status == 200
    assert names == ["api.test"]


@pytest.mark.parametrize(
    ("name", "days", "self_signed", "trusted", "says"),
    [
        ("other.test", 1, False, True, "another name"),
        ("api.test", -1, False, True, "expired"),
        ("api.test", 1, True, True, "trusted"),
        ("api.test", 1, False, False, "trusted"),
    ],
)
async def test_bad_certificates_are_refused_before_anything_is_sent(
    authority: Authority, tmp_path: Path, *, name: str, days: int, self_signed: bool, trusted: bool, says: str
) -> None:
    tls = authority.context(tmp_path, name, days=days, self_signed=self_signed)
    with pytest.raises(HttpFailure) as failure:
        await https(tls, authority.pem if trusted else None)
    assert (failure.value.kind, failure.value.sent) == ("tls", False)
    assert says in str(failure.value)
    assert "s3cret" not in str(failure.value)


async def test_operator_may_name_authorities_in_the_environment(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    assert (await https(authority.context(tmp_path, "api.test"), None)).status == 200


async def plain_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def test_old_tls_and_plain_text_servers_are_refused(authority: Authority, tmp_path: Path) -> None:
    old = authority.context(tmp_path, "api.test")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(HttpFailure) as failure:
        await https(old, authority.pem)
    # The server may say why or just hang up during the handshake.
    assert (failure.value.kind, failure.value.sent) in {("tls", False), ("reset", False)}
    async with serving(plain_text) as port, client(port) as http:
        with pytest.raises(HttpFailure) as failure:
            await http.send(OutboundRequest("GET", f"https://api.test:{port}/"), deadline=3)
    assert (failure.value.kind, failure.value.sent) == ("tls", False)
