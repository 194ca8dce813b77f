"""Signatures of incoming webhooks, against the examples that vendors publish and the library of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from mooring import errors
from mooring.connectors.definition import Events
from mooring.connectors.loader import load_file
from mooring.connectors.registry import CATALOG
from mooring.incoming.verifying import Received, moment_of, verify

SLACK = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def events_of(key: str) -> Events:
    found = load_file(CATALOG / f"{key}.yaml", True).events
    assert found is not None
    return found


def request(headers: dict[str, str], body: bytes, **more: Any) -> Received:
    return Received("POST", more.pop("url", "https://hub.example/x"), headers, more.pop("query", {}), body)


def accepted(events: Events, secret: str, received: Received, now: float = 1_700_000_000) -> bool:
    try:
        verify(events, secret, received, now)
    except errors.Unauthorized as e:
        assert e.error_code == "IncomingSignatureError" and secret not in str(e.body())
        return False
    return True


def test_the_example_that_github_publishes() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = "It's a Secret to Everybody"
    assert accepted(events_of("github"), secret, request({"x-hub-signature-256": signature}, b"Hello, World!"))
    assert not accepted(events_of("github"), secret, request({"x-hub-signature-256": signature}, b"Hello, World?"))
    assert not accepted(
        events_of("github"), secret + " ", request({"x-hub-signature-256": signature}, b"Hello, World!")
    )
    assert not accepted(events_of("github"), secret, request({"x-hub-signature-256": signature[7:]}, b"Hello, World!"))
    assert not accepted(events_of("github"), secret, request({}, b"Hello, World!"))


def test_the_example_that_slack_publishes() -> None:
    secret, at = "8f742231b10e8888abcd99yyyzzz85a5", 1531420618
    headers = {
        "x-slack-request-timestamp": str(at),
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    events = events_of("slack")
    assert accepted(events, secret, request(headers, SLACK), now=at + 200)
    assert not accepted(events, secret, request(headers, SLACK), now=at + 301), "too old"
    assert not accepted(events, secret, request(headers, SLACK), now=at - 301), "from the future"
    later = {**headers, "x-slack-request-timestamp": str(at + 100)}
    assert not accepted(events, secret, request(later, SLACK), now=at + 100), "the time is signed"


def test_a_list_of_signatures_holds_the_time_and_more_than_one_key() -> None:
    events, secret, body, at = events_of("stripe"), "whsec_test", b'{"id": "evt_1"}', 1_700_000_000
    good = hmac.digest(secret.encode(), f"{at}.".encode() + body, "sha256").hex()
    for value, fits in (
        (f"t={at},v1={good}", True),
        (f"t={at}, v1={'0' * 64}, v1={good}", True),
        (f"t={at},v0={good}", False),
        (f"v1={good}", False),
        (f"t={at + 1},v1={good}", False),
        ("", False),
        ("," * 5000, False),
    ):
        assert accepted(events, secret, request({"stripe-signature": value}, body), now=at) is fits, value[:60]


def test_what_is_signed_may_hold_method_address_and_time_around_any_bytes() -> None:
    events, secret, body, at = events_of("hubspot"), "client-secret", bytes(range(256)), 1_700_000_000_123
    url = "https://hub.example/external-trigger/hubspot?externalTriggerToken=x"
    message = b"POST" + url.encode() + body + str(at).encode()
    signature = base64.b64encode(hmac.digest(secret.encode(), message, "sha256")).decode()
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(at)}
    assert accepted(events, secret, request(headers, body, url=url), now=at / 1000)
    assert not accepted(events, secret, request(headers, body, url=url + "&more=1"), now=at / 1000)
    assert not accepted(events, secret, request(headers, body + b"\0", url=url), now=at / 1000)


def test_standard_webhooks_as_its_own_library_signs_them() -> None:
    events = Events(standard_webhooks=True)
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    body = '{"type": "user.created"}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1,AAAA " + Webhook(secret).sign("msg_1", at, body),
    }
    assert accepted(events, secret, request(headers, body.encode()))
    assert not accepted(events, secret, request({**headers, "webhook-id": "msg_2"}, body.encode()))
    assert not accepted(events, secret, request(headers, body.encode()), now=1_700_000_400)
    assert not accepted(events, "whsec_" + base64.b64encode(b"x" * 24).decode(), request(headers, body.encode()))
    assert not accepted(events, "whsec_!!", request(headers, body.encode())), "a key that is none signs nothing"


@pytest.mark.parametrize(
    ("events", "received"),
    [
        (Events(token_header="x-gitlab-token"), {"headers": {"x-gitlab-token": "s3cret-of-eight"}}),
        (Events(token_query="key"), {"query": {"key": "s3cret-of-eight"}}),
        (
            Events(token_basic=True),
            {"headers": {"authorization": "Basic " + base64.b64encode(b"hub:s3cret-of-eight").decode()}},
        ),
    ],
)
def test_a_secret_that_is_sent_along(events: Events, received: dict[str, Any]) -> None:
    def made(**more: Any) -> Received:
        return request(more.get("headers", {}), b"", query=more.get("query", {}))

    assert accepted(events, "s3cret-of-eight", made(**received))
    assert not accepted(events, "another-secret", made(**received))
    assert not accepted(events, "s3cret-of-eight", made())


def test_every_connector_with_events_refuses_what_is_not_signed() -> None:
    found = 0
    for path in sorted(CATALOG.glob("*.yaml")):
        if "\nevents:" not in path.read_text():
            continue
        events = events_of(path.stem)
        found += 1
        if not events.needs_secret:
            continue
        forged = hashlib.sha256(b"{}").hexdigest()
        headers = {"authorization": "Basic eDo="}
        if events.signature is not None:
            prefix = f"{events.signature.part}=" if events.signature.part else events.signature.prefix
            headers[events.signature.header] = prefix + forged
        assert not accepted(events, "secret-of-the-hub", request(headers, b"{}")), path.stem
        with pytest.raises(errors.Unauthorized):
            verify(events, None, request(headers, b"{}"), 0)
    assert found >= 20


def test_times() -> None:
    assert moment_of("1700000000") == 1_700_000_000 and moment_of(" 1700000000123 ") == 1_700_000_000.123
    assert moment_of("2026-01-02T03:04:05Z") == 1767323045.0
    assert [moment_of(text) for text in ("", "x", "²", "2026-01-02", "1" * 40, "-5")] == [None] * 6
