"""Every fault mode, seen from the client's end of a real connection."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from mooring.sandbox.faults import HUGE_BYTES

from .harness import Sandbox, code_form

ACME = {"x-api-key": "sandbox-key-acme"}
TARGETS = ["token", "api"]


def ask(sandbox: Sandbox, target: str) -> httpx.Response:
    if target == "api":
        return sandbox.http.get("/api/me", headers=ACME)
    return sandbox.token({"grant_type": "client_credentials"})


def request_for(sandbox: Sandbox, target: str) -> httpx.Request:
    if target == "api":
        return sandbox.http.build_request("GET", "/api/me", headers=ACME)
    form = {"grant_type": "client_credentials"}
    return sandbox.http.build_request("POST", "/oauth/token", data=form)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("mode", "status"), [("status_429", 429), ("status_500", 500), ("status_503", 503)])
def test_status_modes(sandbox: Sandbox, target: str, mode: str, status: int) -> None:
    sandbox.fault(target, mode, times=2)
    for _ in range(2):
        response = ask(sandbox, target)
        assert response.status_code == status
        assert response.json()["error"]
    assert ask(sandbox, target).status_code == 200
    assert sandbox.counters()["faults_fired"] == {f"{target}:{mode}": 2}


@pytest.mark.parametrize(("ms", "seconds"), [(0, "1"), (1000, "1"), (2001, "3")])
def test_retry_after(sandbox: Sandbox, ms: int, seconds: str) -> None:
    sandbox.fault("token", "status_429", ms=ms)
    assert ask(sandbox, "token").headers["retry-after"] == seconds


@pytest.mark.parametrize("target", TARGETS)
def test_answers_that_lie(sandbox: Sandbox, target: str) -> None:
    for mode in ("html_200", "truncated_json", "error_200", "redirect_307"):
        sandbox.fault(target, mode)
    html, cut, error, redirect = (ask(sandbox, target) for _ in range(4))
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert cut.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        cut.json()
    assert (error.status_code, error.json()) == (200, {"ok": False, "error": "internal_error"})
    assert (redirect.status_code, redirect.headers["location"]) == (307, f"{sandbox.url}/redirected")


def test_followed_redirects_are_counted(sandbox: Sandbox) -> None:
    sandbox.fault("token", "redirect_307")
    assert ask(sandbox, "token").next_request is not None
    assert sandbox.counters()["redirects_followed"] == 0
    sandbox.fault("token", "redirect_307")
    sandbox.http.post("/oauth/token", follow_redirects=True)
    assert sandbox.counters()["redirects_followed"] == 1


@pytest.mark.parametrize("target", TARGETS)
def test_hang(sandbox: Sandbox, target: str) -> None:
    sandbox.fault(target, "hang", ms=300)
    began = time.monotonic()
    with pytest.raises(httpx.TransportError):
        ask(sandbox, target)
    assert 0.3 <= time.monotonic() - began < 3
    sandbox.fault(target, "hang")
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.send(request_for(sandbox, target)) if sandbox.http.timeout is None else _impatient(sandbox, target)
    assert ask(sandbox, target).status_code == 200
    assert _eventually_idle(sandbox)


def _impatient(sandbox: Sandbox, target: str) -> None:
    request = request_for(sandbox, target)
    request.extensions = {"timeout": {"read": 0.3}}
    sandbox.http.send(request)


def _eventually_idle(sandbox: Sandbox) -> bool:
    for _ in range(50):
        if sandbox.counters()["in_flight_token_requests"] == 0:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("target", TARGETS)
def test_slow_loris(sandbox: Sandbox, target: str) -> None:
    sandbox.fault(target, "slow_loris", ms=100)
    response = sandbox.http.send(request_for(sandbox, target), stream=True)
    assert response.status_code == 200
    began, seen = time.monotonic(), 0
    for chunk in response.iter_raw():
        seen += len(chunk)
        if seen >= 5:
            break
    assert 0.3 <= time.monotonic() - began < 3
    response.close()
    assert _eventually_idle(sandbox)


@pytest.mark.parametrize("target", TARGETS)
def test_huge(sandbox: Sandbox, target: str) -> None:
    sandbox.fault(target, "huge")
    response = sandbox.http.send(request_for(sandbox, target), stream=True)
    assert "content-length" not in response.headers
    size = sum(len(chunk) for chunk in response.iter_raw())
    response.close()
    assert size > HUGE_BYTES


@pytest.mark.parametrize("target", TARGETS)
def test_drop_before_is_a_reset_without_a_byte(sandbox: Sandbox, target: str) -> None:
    sandbox.fault(target, "drop_before")
    parts = urlsplit(sandbox.url)
    path = {"api": "GET /api/me", "token": "POST /oauth/token"}[target]
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as raw:
        raw.sendall(f"{path} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: 0\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    assert ask(sandbox, target).status_code == 200


def test_drop_before_commits_nothing(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    sandbox.fault("token", "drop_before")
    with pytest.raises(httpx.ReadError):
        sandbox.refresh(tokens["refresh_token"])
    assert sandbox.refresh(tokens["refresh_token"]).status_code == 200
    assert sandbox.counters()["token_requests"]["refresh_token"] == 2


def test_drop_after_commit_loses_the_rotated_token(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    sandbox.fault("token", "drop_after_commit")
    with pytest.raises(httpx.ReadError):
        sandbox.refresh(tokens["refresh_token"])
    assert sandbox.counters()["token_ok"] == 2
    assert sandbox.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.counters()["reuse_detections"] == 1


def test_drop_after_commit_within_grace_is_survivable(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"grace_seconds": 30})
    tokens = sandbox.link()
    sandbox.fault("token", "drop_after_commit")
    with pytest.raises(httpx.ReadError):
        sandbox.refresh(tokens["refresh_token"])
    renewed = sandbox.refresh(tokens["refresh_token"]).json()
    assert sandbox.refresh(renewed["refresh_token"]).status_code == 200


def test_drop_after_commit_of_a_write(sandbox: Sandbox) -> None:
    sandbox.fault("api", "drop_after_commit")
    with pytest.raises(httpx.ReadError):
        sandbox.http.delete("/api/employees/emp_acme_001", headers=ACME)
    assert sandbox.http.get("/api/employees/emp_acme_001", headers=ACME).status_code == 404


def test_delay_after_commit(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    sandbox.fault("token", "delay_after_commit", ms=600)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.send(_impatient_refresh(sandbox, tokens["refresh_token"]))
    assert sandbox.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"

    patient = sandbox.link()
    sandbox.fault("token", "delay_after_commit", ms=300)
    began = time.monotonic()
    response = sandbox.refresh(patient["refresh_token"])
    assert response.status_code == 200
    assert time.monotonic() - began >= 0.3
    assert sandbox.me(response.json()["access_token"]).status_code == 200


def _impatient_refresh(sandbox: Sandbox, token: str) -> httpx.Request:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    client = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    return sandbox.http.build_request("POST", "/oauth/token", data={**form, **client}, timeout=0.2)


@pytest.mark.parametrize(("mode", "status"), [("invalid_grant", 400), ("invalid_client", 401)])
def test_oauth_error_modes(sandbox: Sandbox, mode: str, status: int) -> None:
    code = sandbox.consent()["code"]
    sandbox.fault("token", mode)
    response = sandbox.token(code_form(code))
    assert (response.status_code, response.json()["error"]) == (status, mode)
    assert sandbox.token(code_form(code)).status_code == 200


def test_faults_wait_for_their_target_in_order(sandbox: Sandbox) -> None:
    sandbox.fault("token", "status_500")
    sandbox.fault("api", "status_503")
    sandbox.fault("api", "status_429", times=2)
    assert [ask(sandbox, "api").status_code for _ in range(2)] == [503, 429]
    assert sandbox.http.get("/_control/faults").json() == [
        {"target": "token", "mode": "status_500", "times": 1, "ms": None},
        {"target": "api", "mode": "status_429", "times": 1, "ms": None},
    ]
    assert sandbox.http.delete("/_control/faults").json() == []
    assert ask(sandbox, "token").status_code == 200
    assert ask(sandbox, "api").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"target": "token"},
        {"target": "elsewhere", "mode": "hang"},
        {"target": "token", "mode": "nonsense"},
        {"target": "token", "mode": ["hang"]},
        {"target": "api", "mode": "invalid_grant"},
        {"target": "api", "mode": "hang", "times": 0},
        {"target": "api", "mode": "hang", "times": True},
        {"target": "api", "mode": "hang", "ms": -1},
        {"target": "api", "mode": "hang", "ms": 1.5},
        {"target": "api", "mode": "hang", "extra": 1},
        [],
    ],
)
def test_bad_faults(sandbox: Sandbox, body: object) -> None:
    response = sandbox.http.post("/_control/faults", json=body)
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")
    assert sandbox.http.get("/_control/faults").json() == []
