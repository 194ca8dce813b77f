"""The hot path over ASGI, and the prefix of an application taken off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from mooring import errors
from mooring.kit.exchange import Exchange
from mooring.kit.mounted import AnswerCutError, MountedExchange, unmounted

Message = MutableMapping[str, Any]


class Server:
    """What an ASGI server gives an application: messages in, messages out."""

    def __init__(self, *incoming: Message, method: str = "POST", version: str = "1.1") -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in incoming:
            self.incoming.put_nowait(message)
        self.taken = 0
        self.out: list[Message] = []
        self.scope = {
            "type": "http",
            "http_version": version,
            "method": method,
            "path": "/proxy/a b",
            "raw_path": b"/proxy/a%20b",
            "query_string": b"x=1",
            "headers": [(b"x-a", b"b")],
            "client": ("192.0.2.1", 7),
        }

    async def receive(self) -> Message:
        message = await self.incoming.get()
        self.taken += 1
        return message

    async def send(self, message: Message) -> None:
        self.out.append(message)

    async def serve(self, handler: Callable[[Exchange], Awaitable[None]]) -> None:
        async with asyncio.timeout(5):
            await MountedExchange(self.scope, self.receive, self.send).run(handler)


def part(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


@pytest.mark.parametrize(
    ("path", "raw", "root", "inner"),
    [
        ("/hub/proxy/a b", b"/hub/proxy/a%20b", "/hub", ("/proxy/a b", b"/proxy/a%20b")),
        ("/a/hub", b"/a/hub", "/a/hub", ("/", b"/")),
        ("/proxy/x", b"/proxy/x", "/hub", ("/proxy/x", b"/proxy/x")),  # a server that took the prefix off
        ("/hubbub", b"/hubbub", "/hub", ("/hubbub", b"/hubbub")),
        ("/proxy/x", b"/proxy/x", "", ("/proxy/x", b"/proxy/x")),
    ],
)
def test_the_prefix_is_taken_off(path: str, raw: bytes, root: str, inner: tuple[str, bytes]) -> None:
    made = unmounted({"path": path, "raw_path": raw, "root_path": root})
    assert (made["path"], made["raw_path"], made["root_path"]) == (*inner, "")


@pytest.mark.parametrize("raw", [b"/%68ub/proxy/x", b"/hub%2Fproxy/x"])
def test_a_prefix_spelled_in_another_way_is_refused(raw: bytes) -> None:
    with pytest.raises(errors.NotFound):
        unmounted({"path": "/hub/proxy/x", "raw_path": raw, "root_path": "/hub"})


async def test_a_request_and_its_answer_pass() -> None:
    server = Server(part(b"one ", more=True), part(b"two"))

    async def handler(exchange: Exchange) -> None:
        assert exchange.target == b"/proxy/a%20b?x=1" and exchange.client == ("192.0.2.1", 7)
        exchange.respond(201, [(b"x-c", b"d")], await exchange.read(100))

    await server.serve(handler)
    start, body = server.out
    assert start["status"] == 201 and start["headers"] == [(b"x-c", b"d"), (b"content-length", b"7")]
    assert body["body"] == b"one two" and not body.get("more_body")


async def test_a_body_is_read_no_faster_than_it_is_wanted() -> None:
    server = Server(*(part(b"x" * 20_000, more=True) for _ in range(50)), part(b""))
    seen = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal seen
        await asyncio.sleep(0.05)
        assert server.taken < 10
        async for piece in exchange.chunks():
            seen += len(piece)
        exchange.begin(200, [], length=None, has_body=True)
        await exchange.send(b"done")
        exchange.end()

    await server.serve(handler)
    assert seen == 1_000_000
    assert [message.get("body") for message in server.out[1:]] == [b"done", b""]
    assert [message.get("more_body", False) for message in server.out[1:]] == [True, False]


async def test_the_head_goes_out_before_the_body_is_there() -> None:
    server = Server(part(b""))

    async def handler(exchange: Exchange) -> None:
        exchange.begin(200, [], length=3, has_body=True)
        await asyncio.sleep(0.02)
        assert [message["type"] for message in server.out] == ["http.response.start"]
        await exchange.send(b"abc")
        exchange.end()

    await server.serve(handler)


async def test_an_answer_that_is_not_whole_raises() -> None:
    server = Server(part(b""))

    async def handler(exchange: Exchange) -> None:
        exchange.begin(200, [], length=None, has_body=True)
        await exchange.send(b"half")
        exchange.cut()

    with pytest.raises(AnswerCutError):
        await server.serve(handler)
    assert all(message.get("more_body", True) for message in server.out)


async def test_a_caller_that_leaves_cancels_the_handler_alone() -> None:
    server = Server(part(b""))
    ended = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        server.incoming.put_nowait({"type": "http.disconnect"})
        try:
            await asyncio.sleep(60)
        finally:
            assert exchange.disconnected
            ended.set()

    await server.serve(handler)
    assert ended.is_set() and server.out == []
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_host_that_stops_cancels_the_handler() -> None:
    server = Server(part(b""))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(_exchange: Exchange) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    serving = asyncio.create_task(server.serve(handler))
    await begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert ended.is_set()


@pytest.mark.parametrize(("version", "framed"), [("2", True), ("1.1", False)])
async def test_a_body_of_http_2_needs_no_framing(version: str, framed: bool) -> None:
    server = Server(part(b"x"), version=version)

    async def handler(exchange: Exchange) -> None:
        assert ((b"transfer-encoding", b"chunked") in exchange.headers) is framed
        exchange.respond(204, [], b"")

    await server.serve(handler)
    assert server.out[0]["headers"] == []
