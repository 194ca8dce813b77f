"""`Prefer: heartbeat` keeps a slow call's connection alive, and a minute is the end of every call (contract §1)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.hub import Hub, ok, refused
from tests.proxy.conftest import Linked, link_bare
from tests.proxy.upstream import Seen, Upstream, answer

BEAT = {"prefer": "respond-async, heartbeat"}


def test_a_quick_call_is_answered_as_ever(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/x", answer(200, b"[1]", "content-type: application/json"))
    headers = {"x-account-id": linked.account, **BEAT}
    made = linked.project.http.post("/unified/proxy", json={"path": "/x"}, headers=headers)
    assert ok(made)["data"] == [1] and made.headers["preference-applied"] == "heartbeat"
    assert made.content.startswith(b"{")
    missing = linked.project.http.post("/unified/proxy", json={"path": "/x"}, headers={**headers, "x-account-id": "no"})
    refused(missing, 404)
    assert missing.headers["preference-applied"] == "heartbeat"
    assert "preference-applied" not in linked.unified({"path": "/x"}).headers


def test_newlines_come_before_the_body_of_a_slow_call(linked: Linked, upstream: Upstream) -> None:
    def slow(_connection: socket.socket, _seen: Seen) -> bytes:
        time.sleep(7)
        return answer(201, b'{"a": 1}', "content-type: application/json")

    upstream.on("/slow", slow)
    headers = {"x-account-id": linked.account, **BEAT}
    pieces = []
    begun = time.monotonic()
    with linked.project.http.stream(
        "POST", "/unified/proxy", json={"path": "/slow"}, headers=headers, timeout=30
    ) as made:
        assert made.status_code == 200 and made.headers["preference-applied"] == "heartbeat"
        first = time.monotonic() - begun
        pieces = list(made.iter_raw())
    assert first < 6.5
    body = b"".join(pieces)
    assert body.startswith(b"\n{")
    answered = json.loads(body)
    assert (answered["status"], answered["data"]) == (201, {"a": 1})
    (row,) = ok(linked.project.http.get("/requests/logs"))["data"]
    assert row["status"] == 201 and row["provider_duration"] >= 6900 and row["bytes_down"] == 8


def test_a_caller_who_leaves_ends_the_call(linked: Linked, upstream: Upstream) -> None:
    left = threading.Event()

    def silent(connection: socket.socket, _seen: Seen) -> None:
        connection.settimeout(30)
        if connection.recv(1) == b"":
            left.set()

    upstream.on("/silent", silent)
    headers = {"x-account-id": linked.account, **BEAT}
    with linked.project.http.stream("POST", "/unified/proxy", json={"path": "/silent"}, headers=headers, timeout=20):
        pass
    assert left.wait(12)


def test_after_a_minute_both_roads_say_408(hubs: Callable[[str], Hub], upstream: Upstream) -> None:
    linked = link_bare(hubs("sqlite").new_project(), upstream)  # one minute is enough: no database is asked meanwhile
    stop = threading.Event()

    def silent(_connection: socket.socket, _seen: Seen) -> None:
        stop.wait(70)

    upstream.on("/silent", silent)
    headers = {"x-account-id": linked.account}
    try:
        with ThreadPoolExecutor(3) as pool:
            beating = pool.submit(
                linked.project.http.post,
                "/unified/proxy",
                json={"path": "/silent"},
                headers={**headers, **BEAT},
                timeout=80,
            )
            plain = pool.submit(linked.unified, {"path": "/silent"}, timeout=80)
            streamed = pool.submit(linked, path="/silent", timeout=80)
            for made in (plain.result(), streamed.result()):
                refused(made, 408, "RequestTimeoutError")
                assert made.headers["retry-after"] == "60"
            beaten = beating.result()
    finally:
        stop.set()
    assert beaten.status_code == 200
    assert beaten.content.startswith(b"\n" * 8)
    refusal = json.loads(beaten.content)
    assert refusal["statusCode"] == 408 and refusal["errorCode"] == "RequestTimeoutError"
    assert refusal["requestId"] == beaten.headers["x-request-id"]
