"""Malformed requests on a raw socket: none leaves the base path, none reaches another listener (rules P1, S22)."""

from __future__ import annotations

import itertools
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.conftest import Ports
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Upstream, upstream_on

DOTS = [
    "..",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "..;",
    "..;a=b",
    "%2e%2e%3b",
    "%c0%ae%c0%ae",
    "..%00",
    "..\\",
]
SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%5C", "%252f", "%255c", "//", "%c0%af"]


def targets(canary: str) -> list[str]:
    """Request targets that try to leave `/base/v1` or its host."""
    climbs = [f"/proxy/{dots}{slash}admin" for dots, slash in itertools.product(DOTS, SLASHES)]
    deeper = [f"/proxy/a{slash}{dots}{slash}{dots}{slash}x" for dots, slash in itertools.product(DOTS, SLASHES[:7])]
    hosts = [
        f"/proxy//{canary}/x",
        f"/proxy///{canary}/x",
        f"/proxy/\\\\{canary}/x",
        f"/proxy/%2f%2f{canary}/x",
        f"/proxy/http://{canary}/x",
        f"/proxy/http:/{canary}/x",
        f"/proxy@{canary}/x",
        f"/proxy:80@{canary}/x",
        f"/proxy/@{canary}/x",
        f"/proxy/.{canary}/x",
        f"/proxy#@{canary}/x",
        f"/proxy/x#@{canary}/",
        f"/proxy?@{canary}/x",
        f"/proxy/?url=http://{canary}/",
        f"//{canary}/proxy/x",
        f"http://{canary}/proxy/x",
        f"http://user:pass@{canary}/proxy/x",
        f"https://{canary}/proxy/../x",
        f"http://{canary}",
        f"{canary}",
        "*",
        "/%70roxy/x",
        "/proxy%2f..%2fx",
        "/proxy/..",
        "/proxy/.",
        "/proxy/./x",
        "/proxy/../proxy/x",
        "/x/../proxy/x",
        "/proxy/%0d%0aHost:%20evil",
        "/proxy/%0aX-Injected:%201",
        "/proxy/%00",
        "/proxy/a%20HTTP/1.1%0d%0aX-Injected:1",
        "/proxy/x?a=%0d%0aX-Injected:%201",
        "/proxy/é",
        "/proxy/\x7f",
        "/proxy/a b",
        "/proxy/\tx",
        "",
    ]
    return climbs + deeper + hosts


def headers_that_smuggle() -> list[tuple[str, bytes]]:
    """Header blocks that two parsers could read differently."""
    return [
        ("GET", b"X-A: 1\r\n folded: yes"),
        ("GET", b"X-A: 1\r\n\tX-Injected: 1"),
        ("GET", b"X-A: 1\rX-Injected: 1"),
        ("GET", b"X-A: 1\nX-Injected: 1"),
        ("GET", b"X-A: a\0b"),
        ("GET", b"X-A : 1"),
        ("GET", b"X A: 1"),
        ("GET", b": nameless"),
        ("GET", b"no-colon"),
        ("GET", b"Host: evil.example\r\nHost: second.example"),
        ("GET", b"Content-Length: 5"),
        ("GET", b"Expect: 100-continue"),
        ("POST", b"Content-Length: 3\r\nContent-Length: 4"),
        ("POST", b"Content-Length: 3, 4"),
        ("POST", b"Content-Length: -1"),
        ("POST", b"Content-Length: +3"),
        ("POST", b"Content-Length: 0x3"),
        ("POST", b"Content-Length: 3\r\nTransfer-Encoding: chunked"),
        ("POST", b"Transfer-Encoding: chunked\r\nContent-Length: 3"),
        ("POST", b"Transfer-Encoding: xchunked"),
        ("POST", b"Transfer-Encoding: chunked, identity"),
        ("POST", b"Transfer-Encoding: identity"),
        ("POST", b"Transfer-Encoding : chunked"),
        ("POST", b"Transfer-Encoding:\x0bchunked"),
        ("POST", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("GET\x00", b"X-A: 1"),
        ("G@T", b"X-A: 1"),
        ("GET /x", b"X-A: 1"),
    ]


SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def test_no_malformed_request_leaves_the_base(based: Linked, upstream: Upstream, ports: Ports) -> None:
    credentials = httpx.BasicAuth(based.project.key, "")._auth_header
    ours = f"authorization: {credentials}\r\nx-account-id: {based.account}".encode()
    with upstream_on(ports.spare[1]) as canary:
        where = f"127.0.0.1:{canary.port}"
        requests = [
            f"GET {target} HTTP/1.1\r\nhost: {where}\r\n".encode() + ours + b"\r\nconnection: close\r\n\r\n"
            for target in targets(where)
        ]
        requests += [
            f"{method} /proxy/x HTTP/1.1\r\nhost: a\r\n".encode() + ours + b"\r\n" + block + b"\r\n\r\n" + SMUGGLED
            for method, block in headers_that_smuggle()
        ]
        assert len(requests) >= 200
        port = based.project.hub.port
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda request: _exchange(port, request), requests))
        assert (canary.connections, canary.seen) == (0, [])
    for request, given in zip(requests, answers, strict=True):
        _is_clean(request, given)
    for seen in upstream.calls():
        path = seen.target.partition("?")[0]
        assert path == "/base/v1" or path.startswith("/base/v1/"), seen.line
        assert "smuggled" not in seen.target and "injected" not in dict(seen.headers), seen
        assert seen.header("host") == f"127.0.0.1:{upstream.port}"
        assert not ("content-length" in dict(seen.headers) and "transfer-encoding" in dict(seen.headers))
    refused = sum(not given.startswith(b"HTTP/1.1 2") for given in answers)
    assert refused > 180, refused


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.6)
        given = b""
        try:
            connection.sendall(request)
            while chunk := connection.recv(65536):
                given += chunk
        except (TimeoutError, ConnectionError):
            pass
        return given


def _is_clean(request: bytes, given: bytes) -> None:
    """A good answer, a refusal in our shape, or a bare 400 of the server (or it just hangs up)."""
    head, _, body = given.partition(b"\r\n\r\n")
    if not head:
        return
    status = int(head.split(b" ")[1])
    if status < 300 or (status == 303 and b"\r\nlocation: /dashboard\r\n" in head):  # our own front page
        return
    if status == 400 and b"content-length: 0" in head.lower():
        return
    body = body[: next((body.index(mark) for mark in (b"HTTP/1.1",) if mark in body), None)]
    refusal = json.loads(body)
    assert refusal["statusCode"] == status and status in {400, 404, 405}, (request, given)
    assert "timestamp" in refusal and "message" in refusal


def test_a_path_that_the_log_cannot_hold_does_not_stop_the_log(based: Linked) -> None:
    based.project.http.post("/unified/proxy", json={"path": "/a\0b"}, headers={"x-account-id": based.account})
    based(path="/after")
    rows = based.project.http.get("/requests/logs").json()["data"]
    assert sorted(row["status"] for row in rows) == [200, 400]
