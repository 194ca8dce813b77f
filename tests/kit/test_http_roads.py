"""Both roads against one real server over TLS: nginx that offers HTTP/2, and nginx that does not."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from mooring.kit.egress import EgressGuard
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from tests.kit.origin import Authority, localhost
from tests.servers.ports import free_port

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


@dataclass(frozen=True)
class Nginx:
    ports: dict[str, int]
    authority: Authority


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = Authority()
    authority.context(folder, "api.test")
    pem = folder / "api.test1False.pem"
    ports = {"h1": free_port(), "h2": free_port()}
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} ssl {'http2' if road == 'h2' else ''}; "
        f"ssl_certificate {pem}; ssl_certificate_key {pem}; root {folder}; client_max_body_size 0; "
        "location / { add_header X-Road $server_protocol; add_header X-Method $request_method; "
        "add_header X-Sni $ssl_server_name; return 200 'hello from $request_uri'; } "
        "location /file { add_header X-Road $server_protocol; } "
        "location /none { return 204; } location /slow { limit_rate 100k; } }\n"
        for road, port in ports.items()
    )
    (folder / "file").write_bytes(bytes(range(256)) * 4096)
    (folder / "slow").write_bytes(b"x" * 5_000_000)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit; user root;\n"
        f"events {{ worker_connections 128; }}\nhttp {{ access_log off; {temp}\n{servers} }}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config), "-e", "stderr"])
    try:
        for port in ports.values():
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.05)
        yield Nginx(ports, authority)
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def client(nginx: Nginx) -> AsyncIterator[HttpClient]:
    guard = EgressGuard(frozenset(("api.test", port) for port in nginx.ports.values()), localhost)
    http = HttpClient(guard, user_agent="Mooring/test", extra_root_pem=nginx.authority.pem)
    try:
        yield http
    finally:
        await http.aclose()


@pytest.mark.parametrize(("road", "protocol"), [("h1", "HTTP/1.1"), ("h2", "HTTP/2.0")])
async def test_both_roads_answer_alike(nginx: Nginx, road: str, protocol: str) -> None:
    url = f"https://api.test:{nginx.ports[road]}"
    async with client(nginx) as http:
        for _ in range(3):
            whole = await http.send(OutboundRequest("GET", f"{url}/a%2Fb?x=1", [("x-a", "b")]), deadline=5)
            assert (whole.status, whole.body) == (200, b"hello from /a%2Fb?x=1")
            assert (whole.header("x-road"), whole.header("x-sni")) == (protocol, "api.test")
        assert (http._http2 is not None) == (road == "h2")
        assert http._pool.idle == (1 if road == "h1" else 0)

        answer = await http.stream(OutboundRequest("GET", f"{url}/file"), first_byte=5, idle=5)
        assert (answer.length, answer.small, dict(answer.raw_headers)[b"x-road"]) == (1 << 20, False, protocol.encode())
        assert b"".join([chunk async for chunk in answer.chunks()]) == bytes(range(256)) * 4096

        answer = await http.stream(OutboundRequest("GET", f"{url}/x"), first_byte=5, idle=5)
        assert answer.small
        assert (answer.taken() or await answer.whole()) == b"hello from /x"

        for method, body in (("HEAD", b""), ("DELETE", b"hello from /")):
            found = await http.send(OutboundRequest(method, f"{url}/"), deadline=5)
            assert (found.body, found.header("x-method")) == (body, method)
        answer = await http.stream(OutboundRequest("HEAD", f"{url}/"), first_byte=5, idle=5)
        assert (answer.length, await answer.whole()) == (0, b"")
        answer = await http.stream(OutboundRequest("GET", f"{url}/none"), first_byte=5, idle=5)
        assert (answer.status, answer.length, [chunk async for chunk in answer.chunks()]) == (204, 0, [])

        with pytest.raises(HttpFailure) as failure:
            await http.send(OutboundRequest("GET", f"{url}/file"), deadline=5, max_bytes=1000)
        assert (failure.value.kind, failure.value.sent) == ("too_large", True)
        with pytest.raises(HttpFailure) as failure:
            await http.send(OutboundRequest("GET", f"{url}/slow"), deadline=0.5, max_bytes=1 << 24)
        assert (failure.value.kind, failure.value.sent) == ("timeout", True)


@pytest.mark.parametrize("road", ["h1", "h2"])
async def test_uploads_pass_on_both_roads(nginx: Nginx, road: str) -> None:
    url = f"https://api.test:{nginx.ports[road]}/up"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000
            await asyncio.sleep(0)

    async with client(nginx) as http:
        for body in (b"one piece", pieces()):
            answer = await http.send(OutboundRequest("PUT", url, (), body), deadline=5)
            assert (answer.status, answer.header("x-method")) == (200, "PUT")


@pytest.mark.parametrize("road", ["h1", "h2"])
async def test_injection_is_refused_on_both_roads(nginx: Nginx, road: str) -> None:
    url = f"https://api.test:{nginx.ports[road]}/"
    async with client(nginx) as http:
        await http.send(OutboundRequest("GET", url), deadline=5)
        for request in (
            OutboundRequest("GET", url, [("x", "a\r\nb: c")]),
            OutboundRequest("GET", url, (), None, [(b"x", b"a\r\nb: c")]),
            OutboundRequest("GET", url, [("x y", "a")]),
            OutboundRequest("GET / HTTP/1.1\r\nX: y", url),
            OutboundRequest("CONNECT", url),
        ):
            with pytest.raises(ValueError, match="cannot be sent"):
                await http.send(request, deadline=5)


async def test_an_untrusted_server_is_refused_on_either_port(nginx: Nginx) -> None:
    guard = EgressGuard(frozenset(("api.test", port) for port in nginx.ports.values()), localhost)
    http = HttpClient(guard, user_agent="x")
    for port in nginx.ports.values():
        with pytest.raises(HttpFailure) as failure:
            await http.send(OutboundRequest("GET", f"https://api.test:{port}/"), deadline=5)
        assert (failure.value.kind, failure.value.sent) == ("tls", False)
    assert http._http2 is None
    await http.aclose()


def test_http2_costs_nothing_until_an_origin_wants_it() -> None:
    code = "import sys, mooring.kit.http; sys.exit(any(name.startswith('pyreqwest') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
