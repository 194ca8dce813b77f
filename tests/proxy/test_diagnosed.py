"""A provider's 401 or 403 that passes through gets the connection doctor's cause in the log, and not a byte is changed."""

from __future__ import annotations

import gzip
import json
import secrets
from typing import Any

import httpx
import pytest

from mooring.diagnosis.answers import diagnose_refusal, in_full, to_keep
from mooring.diagnosis.table import CAUSES
from tests.hub import ok
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Upstream, answer

JSON = "content-type: application/json"
HTML = "content-type: text/html; charset=utf-8"


def newest(linked: Linked, query: str = "include=step_logs") -> dict[str, Any]:
    return ok(linked.project.http.get(f"/requests/logs?page_size=1&{query}"))["data"][0]


CASES = (
    (401, b'{"message": "The API key was revoked"}', (JSON,), "key_revoked"),
    (401, b'{"error": "invalid key"}', (JSON,), "wrong_credentials"),
    (401, b"", (), "wrong_credentials"),
    (403, b'{"detail": "Only an administrator may do this"}', (JSON,), "not_an_administrator"),
    (403, b'{"error": "IP address 203.0.113.9 is not allowed"}', (JSON,), "ip_not_allowed"),
    (403, b"<html><title>Attention Required!</title></html>", (HTML,), "blocked_by_firewall"),
    (403, b'{"error": "Your plan does not include the API"}', (JSON,), "plan_lacks_api"),
    (403, b"", (), "missing_scope"),
)


@pytest.mark.parametrize(("status", "body", "headers", "cause"), CASES)
def test_a_refusal_is_passed_on_as_it_is_and_its_cause_is_in_the_log(
    linked: Linked, upstream: Upstream, status: int, body: bytes, headers: tuple[str, ...], cause: str
) -> None:
    upstream.on("/x", answer(status, body, *headers))
    passed = linked("GET", "/x")
    assert (passed.status_code, passed.content) == (status, body)
    row = newest(linked)
    told = row["diagnosis"]
    assert told["cause"] == cause and told["evidence"]["status"] == status
    assert (told["for_user"], told["what_to_do"]) == (CAUSES[cause].for_user, CAUSES[cause].what_to_do)
    assert told["for_operator"] == CAUSES[cause].for_operator
    assert row["step_requests"][-1]["diagnosis"] == told and row["error_code"] is None
    assert ok(linked.project.http.get(f"/requests/logs/{row['id']}"))["data"]["diagnosis"] == told
    enveloped = ok(linked.unified({"path": "/x"}))
    assert enveloped["status"] == status and "diagnosis" not in enveloped
    assert newest(linked)["diagnosis"] == told


def test_missing_permissions_are_named_by_the_challenge_or_the_body(linked: Linked, upstream: Upstream) -> None:
    challenge = 'www-authenticate: Bearer realm="x", error="insufficient_scope", scope="people:read people:write"'
    upstream.on("/challenge", answer(403, b"{}", JSON, challenge))
    linked("GET", "/challenge")
    told = newest(linked)["diagnosis"]
    assert told["names"] == ["people:read", "people:write"]
    assert told["what_to_do"].endswith("Missing: people:read, people:write.")
    assert told["evidence"]["challenge"] == {
        "scheme": "Bearer",
        "error": "insufficient_scope",
        "scope": "people:read people:write",
    }
    upstream.on("/body", answer(403, b'{"missing_scopes": ["absences.read"]}', JSON))
    linked("GET", "/body")
    assert newest(linked)["diagnosis"]["names"] == ["absences.read"]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_of_a_long_body_the_beginning_is_read_while_it_streams(
    linked: Linked, upstream: Upstream, packed: bool
) -> None:
    body = json.dumps({"error": "the trial has ended", "more": secrets.token_hex(300_000)}).encode()
    sent, headers = (gzip.compress(body), (JSON, "content-encoding: gzip")) if packed else (body, (JSON,))
    upstream.on("/long", answer(403, sent, *headers))
    passed = linked("GET", "/long", headers={"accept-encoding": "gzip"})
    assert passed.content == body
    assert newest(linked)["diagnosis"]["cause"] == "account_suspended"


def test_no_word_of_the_body_and_no_echoed_secret_is_kept(linked: Linked, upstream: Upstream) -> None:
    mark = "Ada-Lovelace-1815"
    challenge = f'www-authenticate: Bearer error="{linked.secret}", scope="{linked.secret}"'
    body = json.dumps({"error": f"{mark} may not", "required_scopes": [linked.secret]}).encode()
    upstream.on("/echo", answer(403, body, JSON, challenge))
    linked("GET", "/echo")
    linked.unified({"path": "/echo"})
    shown = linked.project.http.get("/requests/logs?include=step_logs").text
    assert linked.secret not in shown and mark not in shown
    assert newest(linked)["diagnosis"]["cause"] == "missing_scope"


def test_a_body_that_breaks_off_is_diagnosed_by_what_came(linked: Linked, upstream: Upstream) -> None:
    begun = b'{"error": "account suspended"' + b" " * 300_000
    head = f"HTTP/1.1 403 X\r\ncontent-length: {len(begun) + 10}\r\n{JSON}\r\n\r\n".encode()

    def cut(connection: Any, _seen: object) -> None:
        connection.sendall(head + begun)

    upstream.on("/cut", cut)
    with pytest.raises(httpx.RemoteProtocolError):
        linked("GET", "/cut")
    assert newest(linked)["diagnosis"]["cause"] == "account_suspended"


@pytest.mark.parametrize("status", [200, 404, 409, 500])
def test_other_answers_have_no_diagnosis(linked: Linked, upstream: Upstream, status: int) -> None:
    upstream.on("/x", answer(status, b'{"error": "forbidden"}', JSON))
    linked("GET", "/x")
    row = newest(linked)
    assert row["status"] == status and "diagnosis" not in row and "diagnosis" not in row["step_requests"][-1]


def test_what_is_kept_reads_again_and_a_cause_that_is_gone_reads_as_none() -> None:
    found = diagnose_refusal(403, {"retry-after": "300"}, "", declared="rate_limited", retry_after=300)
    kept = to_keep(found, 403, {"content-type": "text/plain; x=1", "www-authenticate": "Basic realm=secret"})
    assert kept == {
        "cause": "rate_limited",
        "retry_after": 300,
        "evidence": {"status": 403, "content_type": "text/plain", "challenge": {"scheme": "Basic"}},
    }
    full = in_full(kept)
    assert full is not None and "about 5 minutes" in full["what_to_do"] and full["evidence"] == kept["evidence"]
    assert in_full({"cause": "of another version"}) is None
