"""The egress proxy: a tunnel to the address that was checked, TLS by name inside, nothing from the environment (rule P6)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from mooring.kit.egress import EgressGuard
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from tests.conftest import Ports
from tests.hub import Hub, ok
from tests.kit.origin import OK, Authority, answering, client, serving
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port


@dataclass
class Proxy:
    """A small CONNECT proxy: what it was asked, and what it refuses with."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    refuse: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def addresses(self) -> list[str]:
        return [head.split(b" ")[1].decode() for head in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        if self.refuse is not None:
            writer.write(self.refuse)
            await writer.drain()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nX-By: test\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
        finally:
            back.close()


@asynccontextmanager
async def proxying(refuse: bytes | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(refuse=refuse)
    async with serving(proxy.serve) as proxy.port:
        yield proxy


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Both loops: what serves is uvloop, what the courier runs on is not."""

    def runner(coroutine: object) -> None:
        with asyncio.Runner(loop_factory=request.param) as loop:
            loop.run(coroutine)  # type: ignore[arg-type]

    return runner


def call(url: str) -> OutboundRequest:
    return OutboundRequest("GET", url)


def test_tls_by_name_inside_a_tunnel_to_the_address(run: Callable[..., None], tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority()
        seen: list[bytes] = []
        tls = authority.context(tmp_path, "api.test")
        async with serving(answering(OK, seen), tls) as port, proxying() as proxy:
            async with client(port, proxy=proxy.url, extra_root_pem=authority.pem) as http:
                for _ in range(2):
                    answer = await http.send(call(f"https://api.test:{port}/a"), deadline=10)
                    assert (answer.status, answer.body) == (200, b"ok")
            assert proxy.addresses == [f"127.0.0.1:{port}"]  # one tunnel, kept; the address, not the name
            assert all(b"Host: api.test" in head or b"host: api.test" in head.lower() for head in seen)
            async with client(port, host="other.test", proxy=proxy.url, extra_root_pem=authority.pem) as http:
                with pytest.raises(HttpFailure) as caught:
                    await http.send(call(f"https://other.test:{port}/"), deadline=10)
                assert caught.value.kind == "tls"

    run(main())


def test_plain_http_only_where_it_is_allowed(run: Callable[..., None]) -> None:
    async def main() -> None:
        async with serving(answering(OK)) as port, proxying() as proxy, client(port, proxy=proxy.url) as http:
            answer = await http.send(call(f"http://api.test:{port}/"), deadline=10)
            assert answer.body == b"ok" and proxy.addresses == [f"127.0.0.1:{port}"]
            with pytest.raises(HttpFailure) as caught:
                await http.send(call(f"http://api.test:{port + 1}/"), deadline=10)
            assert caught.value.kind == "blocked" and len(proxy.asked) == 1
            with pytest.raises(HttpFailure) as caught:
                await http.send(call("https://169.254.169.254/"), deadline=10)
            assert caught.value.kind == "blocked" and len(proxy.asked) == 1
            assert http.blocked == 2

    run(main())


def test_a_streamed_body_passes(run: Callable[..., None]) -> None:
    async def main() -> None:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 20_000

        seen: list[bytes] = []
        async with serving(answering(OK, seen)) as port, proxying() as proxy, client(port, proxy=proxy.url) as http:
            headers = [(b"content-length", b"1000000")]
            request = OutboundRequest("POST", f"http://api.test:{port}/", (), body(), headers)
            answer = await http.stream(request, first_byte=10, idle=10)
            assert await answer.whole() == b"ok"
        assert seen[0].endswith(b"x" * 1_000_000)

    run(main())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "blocked"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "blocked"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "protocol"),
        (b"SSH-2.0-x\r\n\r\n", "protocol"),
        (b"", "protocol"),
        (b"x" * 40_000, "protocol"),
    ],
)
async def test_what_the_proxy_refuses_fails_by_name(answer: bytes, kind: str) -> None:
    async with proxying(answer) as proxy, client(1, proxy=proxy.url) as http:
        with pytest.raises(HttpFailure) as caught:
            await http.send(call("http://api.test:1/"), deadline=10)
    assert (caught.value.kind, caught.value.sent) == (kind, False)


async def test_a_proxy_that_is_away_or_silent() -> None:
    async with client(1, proxy=f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(HttpFailure) as caught:
            await http.send(call("http://api.test:1/"), deadline=10)
        assert caught.value.kind == "unreachable" and "egress proxy" in str(caught.value)

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port, client(1, proxy=f"http://127.0.0.1:{port}") as http:
        with pytest.raises(HttpFailure) as caught:
            await http.send(call("http://api.test:1/"), deadline=0.5)
        assert caught.value.kind == "timeout"


async def test_credentials_for_the_proxy() -> None:
    async with (
        serving(answering(OK)) as port,
        proxying() as proxy,
        client(port, proxy=f"http://us%65r:p%40ss@127.0.0.1:{proxy.port}") as http,
    ):
        await http.send(call(f"http://api.test:{port}/"), deadline=10)
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in proxy.asked[0]


async def test_an_ipv6_address_stands_in_brackets() -> None:
    async def six(_host: str, _port: int) -> list[str]:
        return ["2606:4700::1111"]

    async with proxying(b"HTTP/1.1 503 Away\r\n\r\n") as proxy:
        http = HttpClient(EgressGuard(frozenset(), six), user_agent="Mooring/test", proxy=proxy.url)
        with pytest.raises(HttpFailure):
            await http.send(call("https://api.test/"), deadline=5)
        await http.aclose()
    assert proxy.addresses == ["[2606:4700::1111]:443"]


async def test_a_rebinding_name_is_checked_before_the_tunnel() -> None:
    async def inward(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    async with proxying() as proxy:
        http = HttpClient(EgressGuard(frozenset(), inward), user_agent="Mooring/test", proxy=proxy.url)
        with pytest.raises(HttpFailure) as caught:
            await http.send(call("https://api.test/"), deadline=5)
        await http.aclose()
    assert caught.value.kind == "blocked" and not proxy.asked


@pytest.fixture
def proxied(ports: Ports, tmp_path: Path) -> Iterator[tuple[Hub, Proxy]]:
    """A hub whose outbound calls go through a proxy, with HTTP_PROXY pointing nowhere."""
    proxy = Proxy()
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(proxy.serve) as proxy.port:
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(5)
    nowhere = f"http://127.0.0.1:{free_port()}"
    env = {"MOORING_EGRESS_PROXY": proxy.url, "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "ALL_PROXY": nowhere}
    try:
        with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, env=env) as hub:
            yield hub, proxy
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def test_the_hub_links_and_calls_through_it(proxied: tuple[Hub, Proxy], provider: Sandbox) -> None:
    hub, proxy = proxied
    project = hub.new_project()
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    assert ok(project.proxy(account, path="/api/me"))
    big = project.proxy(account, "POST", "/api/echo", content=b"x" * 300_000)
    assert big.status_code == 200
    assert set(proxy.addresses) == {provider.url.removeprefix("http://")}


def test_a_proxy_address_that_makes_no_sense_stops_the_start(tmp_path: Path) -> None:
    for value in ("socks5://127.0.0.1:1", "127.0.0.1:3128", "http://127.0.0.1", "http://127.0.0.1:1/path"):
        env = {"MOORING_EGRESS_PROXY": value, "MOORING_DATA_DIR": str(tmp_path / "data"), "PATH": "/usr/bin"}
        command = [sys.executable, "-m", "mooring", "serve", "--port", str(free_port())]
        done = subprocess.run(
            command, env={**env, "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2 and "MOORING_EGRESS_PROXY" in done.stderr, done.stderr
