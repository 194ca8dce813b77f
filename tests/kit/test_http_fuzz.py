"""Any bytes a server may send, cut anywhere, are an answer or an HttpFailure: no hang, no other exception."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from tests.kit.origin import OK, client, serving

LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 304 Not Modified\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 199 Odd\r\n",
        b"HTTP/1.1 000 Odd\r\n",
        b"HTTP/1.0 200\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/0.9 200 OK\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"X: \xff\xfe\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"5\r\nhello\r\n",
        b"ffffffffffffffffff\r\n",
        b"5;x=y\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"hello",
        OK,
    ]
)
# Mostly well-formed, so that the rules of framing are reached.
SHAPED = st.tuples(
    st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"]),
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n"]),
    st.sampled_from([b"", b"Content-Length: 5\r\n", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"]),
    st.sampled_from([b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"]),
    st.just(b"\r\n"),
    st.lists(st.sampled_from([b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nT: x\r\n\r\n", OK]), max_size=3).map(
        b"".join
    ),
).map(b"".join)
ANSWERS = SHAPED | st.lists(LINES | st.binary(max_size=12), max_size=12).map(b"".join) | st.binary(max_size=200)


async def try_one(http: HttpClient, port: int, method: str) -> None:
    request = OutboundRequest(method, f"http://api.test:{port}/")
    try:
        async with asyncio.timeout(8):
            response = await http.stream(request, first_byte=2, idle=2)
            assert 200 <= response.status <= 999
            body = b"".join([chunk async for chunk in response.chunks()])
            assert response.length is None or len(body) == response.length
    except HttpFailure as failure:
        assert failure.kind in {"reset", "protocol"}  # the server closes at the end, so nothing may time out


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(answer=ANSWERS, cuts=st.lists(st.integers(1, 200), max_size=4), method=st.sampled_from(["GET", "POST", "HEAD"]))
def test_any_bytes_in_any_split(factory, answer: bytes, cuts: list[int], method: str) -> None:
    async def run() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))

        async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            start = 0
            for cut in [*sorted(cuts), len(answer)]:
                if start < min(cut, len(answer)):
                    writer.write(answer[start:cut])
                    await writer.drain()
                    await asyncio.sleep(0.001)
                start = max(start, cut)

        async with serving(odd) as port, client(port) as http:
            await try_one(http, port, method)
            await try_one(http, port, method)
            await asyncio.sleep(0.002)
            assert len(http._pool.live) <= 1
        assert http._pool.live == set()
        assert http._pool.idle == 0
        assert faults == []  # an exception in the protocol, which the loop turns into a closed connection

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
