"""The redacted exchange: enough to find a fault by, no secret in it, and only where operators look."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from mooring.diagnosis.evidence import Evidence
from mooring.diagnosis.rules import diagnose
from mooring.diagnosis.table import CAUSES
from mooring.protocol import exchange as exchanges
from tests.diagnosis.provider import Answer, Provider
from tests.diagnosis.test_causes import begin, come_back, doctor_config
from tests.hub import Hub, Project, ok, refused
from tests.rows import query

SECRET = "s3cr3t-canary-0123456789"
BODIES: dict[str, tuple[bytes, str]] = {
    "the secret in JSON": (json.dumps({"message": f"bad key {SECRET}"}).encode(), "bad key"),
    "the secret in a name": (json.dumps({"error": {"detail": SECRET}}).encode(), "error"),
    "the secret in base64": (b"Basic dXNlcjpzM2NyM3QtY2FuYXJ5LTAxMjM0NTY3ODk=", "Basic"),
    "the secret at the cut": (b"x " * 1020 + SECRET.encode() + b" tail", "x x"),
    "a token nobody knows": (b'{"access_token": "unknown-canary-token", "error": "odd"}', "odd"),
    "half a token": (b'{"access_token": "unknown-canary-tok', "access_token"),
    "a form": (b"access_token=unknown-canary-token&error=odd", "error=odd"),
    "a bearer in words": (b"you sent Bearer unknown-canary-token", "you sent"),
    "a code": (b'{"code": "canary4f9a8b7c6d", "error": "odd"}', "odd"),
    "markup": (b"<html><script>var t='unknown-canary-token'</script><b>Not found</b>", "Not found"),
    "an opaque value": (b"session is AbC123dEf456GhI789jKl012MnO345canary9 here", "session is"),
}


@pytest.mark.parametrize("name", BODIES)
def test_nothing_secret_is_left_of_a_body(name: str) -> None:
    body, kept = BODIES[name]
    shown = exchanges.excerpt(body, [SECRET])
    assert kept in shown and "canary" not in shown and "<" not in shown, shown
    assert len(shown.encode()) <= exchanges.BODY_SHOWN


HOSTILE = {
    "open brackets": b"<" * (1 << 20),
    "one long word": b"a" * (1 << 20),
    "digits and letters": b"a1" * (1 << 19),
    "spaces": b"Bearer" + b" " * (1 << 20),
    "open scripts": b"<html>" + b"<script " * (1 << 17),
    "comments": b"<html>" + b"<!-- " * (1 << 17),
    "names": b"key key key " * (1 << 16),
    "equals": b"a=" * (1 << 19),
    "addresses": b"ip address " * (1 << 16),
    "accounts": b"account your user only must " * (1 << 15),
    "deep lists": b"[" * 900 + b"]" * 900,
    "deep objects": b'{"a":' * 900 + b"1" + b"}" * 900,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_costs_little_time(name: str) -> None:
    begun = time.process_time()
    shown = exchanges.excerpt(HOSTILE[name], [SECRET], "text/html")
    found = diagnose(Evidence("credential_test", status=401, text=HOSTILE[name][:65536].decode()))
    assert time.process_time() - begun < 2  # a tenth of it on an idle machine
    assert len(shown.encode()) <= exchanges.BODY_SHOWN and found.code in CAUSES


def test_words_of_errors_are_kept() -> None:
    body = {"error": "invalid_client", "error_description": "no", "code": "E SEAT", "token_type": "mac", "status": 7}
    shown = json.loads(exchanges.excerpt(json.dumps(body).encode(), []))
    assert shown == body
    request_id = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    assert request_id in exchanges.excerpt(f"request {request_id} failed".encode(), [])


def test_urls_and_headers_are_cleaned() -> None:
    seen = exchanges.answered(
        "GET",
        f"https://user:{SECRET}@api.example/v1/{SECRET}/me?key={SECRET}",
        sent=[("Authorization", f"Bearer {SECRET}"), ("X-Api-Key", SECRET)],
        status=302,
        headers=[("Location", f"https://a.example/?token={SECRET}"), ("Set-Cookie", SECRET), ("Date", "today")],
        body=b"",
        elapsed_ms=12,
        secrets=[SECRET],
    ).as_json()
    assert SECRET not in json.dumps(seen)
    assert seen["request_headers"] == ["authorization: Bearer [redacted]", "x-api-key"]
    assert seen["headers"] == {"location": "https://a.example/?token=…", "date": "today"}
    assert seen["url"] == "https://api.example/v1/[redacted]/me?key=…"


def test_an_operator_finds_the_exchange_of_a_failed_form(doctor: Project, doctor_hub: Hub, upstream: Provider) -> None:
    upstream.rules["/me"] = Answer(403, {"message": "no", "echo": "doc_live_canary_77x"}, {"x-request-id": "up-1"})
    config = doctor_config(doctor, "key")
    body = refused(
        doctor.session(integration_id=config["id"]).submit(config["id"], {"api_key": "doc_live_canary_77x"}), 422
    )
    log = ok(doctor.http.get(f"/requests/logs/{body['requestId']}"))["data"]
    assert (log["error_code"], log["provider"], log["success"], log["category"]) == (
        "missing_scope", "doctor", False, "platform",
    )  # fmt: skip
    (step,) = log["step_requests"]
    told = step["exchange"]
    assert (told["method"], told["url"], told["status"]) == ("GET", f"{upstream.url}/me", 403)
    assert told["headers"]["x-request-id"] == "up-1" and "authorization: Bearer [redacted]" in told["request_headers"]
    assert "canary" not in json.dumps(log)
    refused(doctor_hub.new_project().http.get(f"/requests/logs/{body['requestId']}"), 404)
    listed = ok(doctor.http.get("/requests/platform-logs", params={"success": "false"}))["data"]
    assert body["requestId"] in {row["id"] for row in listed}


def test_an_operator_finds_the_exchange_of_a_failed_sign_in(doctor: Project, upstream: Provider) -> None:
    upstream.rules["/token"] = Answer(401, {"error": "invalid_client", "echo": "canary-code-1 canary-client-secret-1"})
    config: dict[str, Any] = {**doctor_config(doctor), "_url": upstream.url}
    session, attempt, back = begin(doctor, config)
    come_back(session, dict(back))
    description = session.attempt_state(attempt)["error"]["description"]
    reference = description.rpartition("Reference: ")[2].rstrip(".")
    log = ok(doctor.http.get(f"/requests/logs/{reference}"))["data"]
    assert log["error_code"] == "client_rejected" and log["path"] == "/connect/oauth2/doctor/callback"
    told = log["step_requests"][0]["exchange"]
    assert "authorization: Basic [redacted]" in told["request_headers"] and "invalid_client" in told["body"]
    assert "canary" not in json.dumps(log)


def test_no_secret_stands_in_the_database(doctor: Project, upstream: Provider) -> None:
    upstream.rules["/token"] = lambda r: Answer(
        400, {"error": "invalid_grant", "error_description": f"bad {r['body']}"}
    )
    config: dict[str, Any] = {**doctor_config(doctor), "_url": upstream.url}
    session, _, back = begin(doctor, config)
    come_back(session, dict(back))
    ok(doctor.http.get("/requests/platform-logs"))  # what waits is written now
    for table in ("request_logs", "connection_attempts", "accounts", "webhook_events"):
        found = query(doctor.hub, f"SELECT name FROM sqlite_master WHERE name = '{table}'")
        rows = query(doctor.hub, f"SELECT * FROM {table}") if found else []
        assert "canary-code-1" not in str(rows) and "canary-client-secret-1" not in str(rows), table
