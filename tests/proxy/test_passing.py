"""`/proxy/*` passes any method, path, query and body on byte for byte, and streams (rules P9, S23)."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.hub import ok
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream, answer

MB = 1 << 20


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCALENDAR", "QUERY"]
)
def test_any_method_arrives(sandboxed: Linked, method: str) -> None:
    assert ok(sandboxed(method, "/api/echo"))["method"] == method


def test_head_has_the_length_and_no_body(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/file", b'HTTP/1.1 200 OK\r\ncontent-length: 12345\r\netag: "x"\r\n\r\n')
    answered = linked("HEAD", "/file")
    assert answered.status_code == 200 and answered.content == b""
    assert answered.headers["content-length"] == "12345" and answered.headers["etag"] == '"x"'
    assert upstream.calls()[0].line == "HEAD /file HTTP/1.1"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "TRACK", "trace"])
def test_methods_that_echo_or_tunnel_are_refused(linked: Linked, upstream: Upstream, method: str) -> None:
    target = "127.0.0.1:1" if method == "CONNECT" else "/proxy/file"
    given = _raw(linked, f"{method} {target} HTTP/1.1\r\n{_ours(linked)}\r\n".encode())
    if method == "CONNECT":  # its target is no path of ours
        assert given == b"" or given.startswith(b"HTTP/1.1 4")
    else:
        head, _, body = given.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ") and b"\r\nallow: GET" in head
        assert json.loads(body)["errorCode"] == "MethodNotAllowedError"
    assert upstream.calls() == []


def _ours(linked: Linked) -> str:
    credentials = httpx.BasicAuth(linked.project.key, "")._auth_header
    return f"host: hub\r\nauthorization: {credentials}\r\nx-account-id: {linked.account}\r\n"


def _raw(linked: Linked, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", linked.project.hub.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


BODIES = {
    "nothing": b"",
    "one byte": b"\0",
    "300 kB": os.urandom(300_000),
    "20 MB": os.urandom(20 * MB),
    "gzip": gzip.compress(b"hello " * 1000),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_arrive_byte_for_byte(sandboxed: Linked, name: str) -> None:
    body = BODIES[name]
    headers = {"content-type": "application/octet-stream"}
    if name == "gzip":
        headers["content-encoding"] = "gzip"
    echo = ok(sandboxed("POST", "/api/echo", content=body, headers=headers))
    assert echo["body"] == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    assert echo["headers"]["content-length"] == str(len(body))
    assert echo["headers"].get("content-encoding") == headers.get("content-encoding")


def test_a_chunked_upload_stays_chunked(sandboxed: Linked) -> None:
    pieces = [os.urandom(70_000) for _ in range(30)]

    def upload() -> Iterator[bytes]:
        yield from pieces

    echo = ok(sandboxed("PUT", "/api/echo", content=upload()))
    assert echo["body"] == {"sha256": hashlib.sha256(b"".join(pieces)).hexdigest(), "size": 30 * 70_000}
    assert echo["headers"]["transfer-encoding"] == "chunked" and "content-length" not in echo["headers"]


def test_a_multipart_body_keeps_its_boundary(linked: Linked, upstream: Upstream) -> None:
    request = linked.project.http.build_request(
        "POST",
        "/proxy/upload",
        files={"file": ("naïve.bin", os.urandom(5000), "image/png")},
        data={"name": "x"},
        headers={"x-account-id": linked.account},
    )
    body = request.read()
    assert linked.project.http.send(request).status_code == 200
    (seen,) = upstream.calls()
    assert seen.body == body and seen.header("content-type") == request.headers["content-type"]


@pytest.mark.parametrize(
    "target",
    [
        "/a?a=1&a=2&b=%20+%2F&c",
        "/a?",
        "/a?=&&x==y",
        "/a?q=%E2%82%AC&%5B%5D=1&f[x]=2",
        "/group%2Fproject/issues;v=1/a:b@c!$&'()*+,=",
        "/a//b/",
        "/",
        "/%7euser/~user/%41",
        "/.well-known/x..y/...",
    ],
)
def test_path_and_query_keep_their_bytes(linked: Linked, upstream: Upstream, target: str) -> None:
    # httpx would tidy the target up, so it is written by hand.
    given = _raw(linked, f"GET /proxy{target} HTTP/1.1\r\n{_ours(linked)}\r\n".encode())
    assert given.startswith(b"HTTP/1.1 200 ")
    assert upstream.calls()[0].target == target.removesuffix("?")


def test_a_header_keeps_its_bytes(linked: Linked, upstream: Upstream) -> None:
    linked(path="/a", headers={"x-name": "Zoë €".encode(), "x-empty": ""})
    assert upstream.calls()[0].header("x-name") == "Zoë €".encode().decode("latin-1")
    assert upstream.calls()[0].header("x-empty") == ""


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 400, 404, 418, 429, 500, 503])
def test_the_providers_status_is_the_callers(linked: Linked, upstream: Upstream, status: int) -> None:
    body = b"" if status in {204, 304} else b"as it is"
    upstream.on("/status", answer(status, body, "retry-after: 7", "location: /elsewhere"))
    answered = linked(path="/status")
    assert (answered.status_code, answered.content) == (status, body)
    assert answered.headers["retry-after"] == "7" and answered.headers["location"] == "/elsewhere"
    assert len(upstream.calls()) == 1  # neither repeated nor redirected


def test_a_large_download_is_streamed_with_flat_memory(sandboxed: Linked) -> None:
    process = psutil.Process(sandboxed.project.hub.process.pid)
    sandboxed(path=f"/api/bytes/{MB}")
    before, peak, size = process.memory_info().rss, 0, 0
    request = sandboxed.project.http.build_request(
        "GET", f"/proxy/api/bytes/{100 * MB}", headers={"x-account-id": sandboxed.account}
    )
    answered = sandboxed.project.http.send(request, stream=True)
    for index, chunk in enumerate(answered.iter_raw()):
        size += len(chunk)
        if index % 100 == 0:
            peak = max(peak, process.memory_info().rss)
    assert size == 100 * MB == int(answered.headers["content-length"])
    assert peak - before < 40 * MB, f"grew by {(peak - before) / MB:.0f} MB"


def test_a_caller_that_reads_slowly_slows_the_provider(linked: Linked, upstream: Upstream) -> None:
    sent = []

    def flood(connection: socket.socket, _seen: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: x/y\r\n\r\n")
        for _ in range(16_000):
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    upstream.on("/flood", flood)
    request = linked.project.http.build_request("GET", "/proxy/flood", headers={"x-account-id": linked.account})
    answered = linked.project.http.send(request, stream=True)
    next(answered.iter_raw(1))
    time.sleep(0.7)
    taken = len(sent)
    time.sleep(0.3)
    assert len(sent) == taken < 3000, f"the hub goes on taking: {len(sent) * 65536 / MB:.0f} MB"
    answered.close()


def test_events_arrive_live(sandboxed: Linked) -> None:
    request = sandboxed.project.http.build_request(
        "GET", "/proxy/api/sse?count=3&interval=400", headers={"x-account-id": sandboxed.account}
    )
    begun, times = time.monotonic(), []
    for chunk in sandboxed.project.http.send(request, stream=True).iter_raw():
        times += [time.monotonic() - begun] * chunk.count(b"event: tick")
    assert len(times) == 3
    assert times[0] < 0.3 and times[1] - times[0] > 0.2 and times[2] - times[1] > 0.2, times


def test_a_compression_bomb_passes_compressed(linked: Linked, upstream: Upstream) -> None:
    bomb = gzip.compress(b"\0" * (64 * MB))
    assert len(bomb) * 1000 < 65 * MB
    upstream.on("/bomb", answer(200, bomb, "content-encoding: gzip"))
    process = psutil.Process(linked.project.hub.process.pid)
    before = process.memory_info().rss
    request = linked.project.http.build_request("GET", "/proxy/bomb", headers={"x-account-id": linked.account})
    answered = linked.project.http.send(request, stream=True)
    assert b"".join(answered.iter_raw()) == bomb and answered.headers["content-encoding"] == "gzip"
    assert process.memory_info().rss - before < 20 * MB
