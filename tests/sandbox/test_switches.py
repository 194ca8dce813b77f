"""Every switch of `/_control/settings`, and the other control endpoints."""

from __future__ import annotations

import time
from urllib.parse import parse_qs

import httpx
import pytest

from mooring.sandbox.app import build_app

from .harness import Sandbox, code_form

ACME = {"x-api-key": "sandbox-key-acme"}


def test_access_token_ttl(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"access_token_ttl": 1})
    tokens = sandbox.link()
    assert tokens["expires_in"] == 1
    assert sandbox.me(tokens["access_token"]).status_code == 200
    time.sleep(1.05)
    refused = sandbox.me(tokens["access_token"])
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")


def test_without_rotation(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"rotate": False})
    tokens = sandbox.link()
    for _ in range(2):
        renewed = sandbox.refresh(tokens["refresh_token"])
        assert renewed.json()["refresh_token"] == tokens["refresh_token"]
    assert sandbox.counters()["reuse_detections"] == 0


def test_expires_in(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"expires_in_as_string": True})
    assert sandbox.link()["expires_in"] == "3600"
    sandbox.control("settings", {"omit_expires_in": True})
    assert "expires_in" not in sandbox.link()


def test_omit_refresh_token(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    sandbox.control("settings", {"omit_refresh_token": True})
    assert "refresh_token" not in sandbox.link()
    for _ in range(2):  # the old one stays good
        renewed = sandbox.refresh(tokens["refresh_token"])
        assert renewed.status_code == 200
        assert "refresh_token" not in renewed.json()


def test_form_encoded_tokens(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"form_encoded_tokens": True})
    response = sandbox.token(code_form(sandbox.consent()["code"]))
    assert response.headers["content-type"].startswith("application/x-www-form-urlencoded")
    body = parse_qs(response.text, strict_parsing=True)
    assert body["expires_in"] == ["3600"]
    assert sandbox.me(body["access_token"][0]).status_code == 200
    refused = sandbox.refresh("unknown")
    assert (refused.status_code, parse_qs(refused.text)["error"]) == (400, ["invalid_grant"])


def test_scope_downgrade(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"scope_downgrade": True})
    tokens = sandbox.link(scope="employees:read employees:write")
    assert tokens["scope"] == "employees:read"
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    assert sandbox.http.post("/api/employees", headers=bearer, json={}).status_code == 403


def test_revoke_old_access_token(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"revoke_old_access_token": True})
    tokens = sandbox.link()
    renewed = sandbox.refresh(tokens["refresh_token"]).json()
    assert sandbox.me(tokens["access_token"]).status_code == 401
    assert sandbox.me(renewed["access_token"]).status_code == 200


def test_delays(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"token_delay_ms": 300, "api_delay_ms": 200})
    began = time.monotonic()
    token = sandbox.token({"grant_type": "client_credentials"}).json()["access_token"]
    between = time.monotonic()
    sandbox.me(token)
    assert between - began >= 0.3
    assert time.monotonic() - between >= 0.2


def test_error_200(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"error_200": True})
    for response in (
        sandbox.http.get("/api/me"),
        sandbox.http.get("/api/employees/none", headers=ACME),
        sandbox.http.get("/api/nothing", headers=ACME),
        sandbox.http.get("/api/employees", headers={"x-api-key": "sandbox-key-limited"}),
        sandbox.refresh("unknown"),
    ):
        assert response.status_code == 200
        assert response.json()["ok"] is False
        assert response.json()["error"]
    assert sandbox.http.get("/api/me", headers=ACME).json()["account_id"] == "acct_acme"
    assert sandbox.counters()["api_401s"] == 1
    sandbox.control("settings", {"form_encoded_tokens": True})
    assert parse_qs(sandbox.refresh("unknown").text)["ok"] == ["false"]


def test_rate_limit(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"rate_limit": {"limit": 2, "window_seconds": 1}})
    answers = [sandbox.http.get("/api/me", headers=ACME) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["retry-after"] == "1"
    assert sandbox.http.get("/api/me", headers={"x-api-key": "sandbox-key-globex"}).status_code == 200
    time.sleep(1.05)
    assert sandbox.http.get("/api/me", headers=ACME).status_code == 200
    assert sandbox.counters()["api_429s"] == 1
    sandbox.control("settings", {"rate_limit": None})
    assert [sandbox.http.get("/api/me", headers=ACME).status_code for _ in range(4)] == [200] * 4


def test_iss_switches(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"wrong_iss": True})
    assert sandbox.consent()["iss"] == "https://mix-up.example"
    sandbox.control("settings", {"omit_iss": True})
    assert "iss" not in sandbox.consent()
    assert "iss" not in sandbox.consent({"decision": "deny"})


def test_token_type(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"token_type": "bearer"})
    assert sandbox.link()["token_type"] == "bearer"


def test_settings_merge_and_reset(sandbox: Sandbox) -> None:
    before = sandbox.http.get("/_control/settings").json()
    assert sandbox.control("settings", {"rotate": False})["rotate"] is False
    assert sandbox.control("settings", {"omit_iss": True}) == {**before, "rotate": False, "omit_iss": True}
    tokens = sandbox.link()
    sandbox.fault("api", "status_500")
    sandbox.http.delete("/api/employees/emp_acme_001", headers={"x-api-key": "sandbox-key-globex"})
    sandbox.http.delete("/api/employees/emp_acme_001", headers=ACME)
    sandbox.control("reset")
    assert sandbox.http.get("/_control/settings").json() == before
    state = sandbox.http.get("/_control/state").json()
    assert (state["faults"], state["grants"], state["counters"]["token_ok"]) == (
        [],
        {"live": 0, "revoked": 0},
        0,
    )
    assert sandbox.me(tokens["access_token"]).status_code == 401
    assert sandbox.http.get("/api/employees", headers=ACME).json()["total"] == 53


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"unknown": 1}',
        b'{"rotate": 1}',
        b'{"access_token_ttl": true}',
        b'{"access_token_ttl": -1}',
        b'{"access_token_ttl": 1.5}',
        b'{"token_delay_ms": 600001}',
        b'{"token_type": null}',
        b'{"rate_limit": 5}',
        b'{"rate_limit": {"limit": 0, "window_seconds": 1}}',
        b'{"rotate": false, "omit_iss": "yes"}',
    ],
)
def test_bad_settings_change_nothing(sandbox: Sandbox, body: bytes) -> None:
    before = sandbox.http.get("/_control/settings").json()
    response = sandbox.http.post("/_control/settings", content=body)
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")
    assert sandbox.http.get("/_control/settings").json() == before


def test_expire(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    assert sandbox.control("expire") == {"expired": 1}
    assert sandbox.me(tokens["access_token"]).status_code == 401
    assert sandbox.refresh(tokens["refresh_token"]).status_code == 200


def test_revoke(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    assert sandbox.control("revoke") == {"revoked": 1}
    assert sandbox.me(tokens["access_token"]).status_code == 401
    assert sandbox.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.http.get("/_control/state").json()["grants"] == {"live": 0, "revoked": 1}


def test_state_shows_no_tokens(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    text = sandbox.http.get("/_control/state").text
    assert tokens["access_token"] not in text
    assert tokens["refresh_token"] not in text


async def test_control_is_for_loopback_callers_only() -> None:
    app = build_app(issuer="http://sandbox.example")
    for address, status in (("192.0.2.7", 403), ("unknown", 403), ("127.0.0.1", 200), ("::1", 200)):
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.example") as http:
            assert (await http.get("/_control/state")).status_code == status
            assert (await http.get("/healthz")).status_code == 200
