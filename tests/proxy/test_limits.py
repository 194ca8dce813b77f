"""A provider's limit is kept for it (S9), and a provider that is down is left alone, without hurting others (R12)."""

from __future__ import annotations

import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.hub import Project
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream, answer


@pytest.fixture
def limited(project: Project, upstream: Upstream) -> Linked:
    """An account at a provider whose connector says: five calls in two seconds."""
    config = project.config("limited", "api_key")
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(config, {"api_key": key}), key)


def counting(upstream: Upstream, path: str = "/list") -> list[float]:
    """The moments at which calls arrive; a provider that refuses the sixth call of any two seconds."""
    times: list[float] = []

    def reply(_connection: socket.socket, _seen: Seen) -> bytes:
        now = time.monotonic()
        times.append(now)
        recent = sum(1 for t in times if t > now - 1.9)  # a call takes a moment to arrive
        return answer() if recent <= 5 else answer(429, b"{}", "retry-after: 2")

    upstream.on(path, reply)
    return times


def test_a_declared_window_is_never_exceeded_and_waiting_calls_go_through(limited: Linked, upstream: Upstream) -> None:
    times = counting(upstream)
    with ThreadPoolExecutor(17) as pool:
        answers = list(pool.map(lambda _: limited(path="/list"), range(17)))
    assert [a.status_code for a in answers] == [200] * 17
    for start in times:
        assert sum(1 for t in times if start <= t < start + 1.9) <= 5


def test_who_does_not_want_to_wait_is_told_when_to_come_back(limited: Linked, upstream: Upstream) -> None:
    times = counting(upstream)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: limited(path="/list", headers={"prefer": "wait=0"}), range(500)))
    statuses = [a.status_code for a in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) == len(times)  # what was refused was never sent, and the provider refused nothing
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.json()["errorCode"] == "ProviderRateLimitError" and 1 <= int(refused.headers["retry-after"]) <= 2


def test_a_retry_after_is_kept_by_all_later_calls(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/busy", answer(429, b'{"error": "slow down"}', "retry-after: 2"))
    first = linked(path="/busy")
    assert first.status_code == 429 and first.json() == {"error": "slow down"}  # the provider's own answer
    sent = len(upstream.calls())
    began = time.monotonic()
    refused = linked(path="/people", headers={"prefer": "wait=0"})
    assert refused.status_code == 429 and len(upstream.calls()) == sent
    assert linked(path="/people").status_code == 200
    assert 1.0 < time.monotonic() - began < 8


def test_a_budget_that_is_used_up_holds_calls_back(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/last", answer(200, b"{}", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 30"))
    assert linked(path="/last").status_code == 200
    refused = linked(path="/people")
    assert refused.status_code == 429 and 25 <= int(refused.headers["retry-after"]) <= 30
    assert len(upstream.calls()) == 1


def test_another_account_of_the_same_provider_is_not_held_back(
    linked: Linked, project: Project, upstream: Upstream
) -> None:
    upstream.on("/busy", answer(429, b"{}", "retry-after: 30"))
    linked(path="/busy")
    config = project.config("sandbox", "api_key", {"sandbox_url": upstream.url})
    key = secrets.token_urlsafe(24)
    other = Linked(project, project.link(config, {"api_key": key}, owner="another"), key)
    assert other(path="/people").status_code == 200


def test_a_provider_that_is_down_is_left_alone_and_found_again(linked: Linked, upstream: Upstream) -> None:
    def hang_up(_connection: socket.socket, _seen: Seen) -> None:
        return None

    upstream.on("/down", hang_up)
    for _ in range(10):
        assert linked("POST", "/down", content=b"x").status_code == 502
    sent = len(upstream.calls())
    left_alone = linked(path="/people")
    assert left_alone.status_code == 502 and left_alone.json()["errorCode"] == "ProviderUnavailableError"
    assert 1 <= int(left_alone.headers["retry-after"]) <= 5 and len(upstream.calls()) == sent
    time.sleep(5.1)
    assert linked(path="/people").status_code == 200
    assert linked(path="/people").status_code == 200


def test_calls_parked_on_a_silent_provider_do_not_slow_down_another(
    linked: Linked, sandboxed: Linked, upstream: Upstream
) -> None:
    upstream.on("/silent", lambda connection, _seen: connection.recv(1) and None)

    def spent(count: int) -> float:
        times = []
        for _ in range(count):
            began = time.monotonic()
            assert sandboxed(path="/api/me").status_code == 200
            times.append(time.monotonic() - began)
        return sorted(times)[count // 2]

    alone = spent(30)
    parked = []
    request = (
        f"GET /proxy/silent HTTP/1.1\r\nhost: hub\r\nx-account-id: {linked.account}\r\n"
        f"authorization: {httpx.BasicAuth(linked.project.key, '')._auth_header}\r\n\r\n"
    ).encode()
    try:
        for _ in range(200):
            parked.append(socket.create_connection(("127.0.0.1", linked.project.hub.port)))
            parked[-1].sendall(request)
        time.sleep(0.5)
        assert spent(30) < 3 * alone + 0.05
    finally:
        for connection in parked:
            connection.close()
