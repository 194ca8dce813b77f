"""What the attacks found, each once fixed: inputs that made the hub fail where it has to refuse."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyotp
import pytest

import mooring
from mooring.actions.inputs import gather
from mooring.client import BadSignature, verify_webhook
from mooring.connectors.loader import load_file
from mooring.connectors.yaml_source import read_yaml
from mooring.errors import BadRequest, ValidationFailed
from mooring.protocol.oauth2 import parse_retry_after
from mooring.protocol.template import compile_template
from mooring.protocol.urls import join_path
from mooring.proxy.service import QUEUE_SECONDS, preferred_wait
from tests.dashboard.people import PASSWORD, recruit
from tests.hub import Hub, Project, client, ok, refused

SANDBOX = Path(mooring.__file__).parent / "connectors" / "catalog" / "sandbox.yaml"


@pytest.fixture
def project(hubs: Callable[[str], Hub]) -> Project:
    """On SQLite alone: none of this depends on the database."""
    return hubs("sqlite").new_project()


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "path",
    [
        "/requests/logs?page_size=%C2%B2",  # a superscript is a digit for Python, and no number
        "/requests/logs?page_size=" + "9" * 5000,
        "/requests/logs?status_codes=%C2%B2",
        "/requests/logs?start_date=0001-01-01T00:00:00%2B14:00",  # before the first year once it is in UTC
        "/requests/logs?end_date=9999-12-31T23:59:59-14:00",
        "/requests/logs?order_by=status&next=" + cursor(True, "x"),
        "/requests/statistics?start_date=0001-01-01T00:00:00%2B14:00",
        "/requests/statistics?start_date=0.5",
        "/events?since=9999-12-31T23:59:59-14:00",
        "/events?since=1700000000",
        "/events?next=1434514647030906224640",
        "/audit_log?next=39565830078845944298232643816783872",
        "/actions?page_size=%C2%B2",
        "/actions?page_size=" + "9" * 5000,
    ],
)
def test_a_bad_query_is_refused(project: Project, path: str) -> None:
    refused(project.http.get(path), 400, "ValidationError")


@pytest.mark.parametrize("value", ["²", "é" * 20, "\xff"])
@pytest.mark.parametrize("path", ["/accounts", "/proxy/x"])
def test_basic_credentials_outside_ascii_are_unknown(project: Project, path: str, value: str) -> None:
    http = client(project.hub.url)
    refused(http.get(path, headers={"authorization": b"Basic " + value.encode()}), 401, "UnauthorizedError")


@pytest.mark.parametrize("depth", [33, 300, 900, 100_000])
def test_a_body_is_not_nested_deeper_than_32_levels(project: Project, depth: int) -> None:
    head = {"content-type": "application/json"}
    body = '{"origin_owner_id":"a","origin_owner_name":"b","metadata":{"a":%s%s}}'
    deep = project.http.post("/connect_sessions", content=body % ("[" * depth, "]" * depth), headers=head)
    refused(deep, 400)
    ok(project.http.post("/connect_sessions", content=body % ("[" * 30, "]" * 30), headers=head), 201)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/connect_sessions", {"origin_owner_id": "a", "origin_owner_name": "b", "multiple": 1}),
        ("/connect_sessions", {"origin_owner_id": "a", "origin_owner_name": "b", "expires_in": "60"}),
        ("/webhooks", {"url": "https://example.com/", "enabled": "yes"}),
        ("/webhooks", {"url": "https://example.com/", "description": "a\0b"}),
        ("/actions/search", {"query": "x", "min_similarity": False}),
        ("/actions/search", {"query": "x", "top_k": "5"}),
    ],
)
def test_flags_numbers_and_texts_are_what_they_say(project: Project, path: str, body: dict[str, Any]) -> None:
    refused(project.http.post(path, json=body), 400, "ValidationError")


def test_a_one_time_code_of_odd_digits_is_wrong(hubs: Callable[[str], Hub]) -> None:
    crew = recruit(hubs("sqlite"), "codes")
    token = crew.member.http.cookies.get("mooring-session")
    http = client(crew.hub.url, headers={"authorization": f"Bearer {token}"})
    secret = ok(http.post("/me/second_factor"))["secret"]
    refused(http.post("/me/second_factor/confirm", json={"code": "²" * 6}), 400)
    ok(http.post("/me/second_factor/confirm", json={"code": pyotp.TOTP(secret).now()}))
    body = {"email": crew.member.email, "password": PASSWORD, "code": "²" * 6}
    refused(client(crew.hub.url).post("/sessions", json=body), 401)


@pytest.mark.parametrize("value", ["wait=²", "wait=٣", "wait=", "wait=-1", "wait=1e3"])
def test_a_wait_that_is_no_number_is_not_wished_for(value: str) -> None:
    assert preferred_wait(value) == QUEUE_SECONDS


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 2024 99999999999999999999:00:00 GMT",
    ],
)
def test_a_time_that_no_machine_holds_is_no_time(value: str) -> None:
    assert parse_retry_after(value, datetime.now(UTC)) is None


@pytest.mark.parametrize("value", ["!!int abc", "!!float x", "!!bool maybe", "!!null x", '!!int "0x1F"', "\ud800"])
def test_yaml_whose_tags_lie_has_faults(value: str) -> None:
    source = read_yaml(f"a: {value}")
    assert source.faults and source.faults[0][0].line == 1


def test_a_number_of_hundreds_of_digits_is_infinity_as_text() -> None:
    assert compile_template("a${" + "9" * 320 + "}").render({}) == "aInfinity"


@pytest.mark.parametrize("value", ["--5", "²", "٣", "-", "9" * 5000])
def test_an_input_that_is_no_number_is_named(value: str) -> None:
    connector = load_file(SANDBOX, builtin=True)
    action = next(a for a in connector.actions.values() if any(i.schema.get("type") == "integer" for i in a.inputs))
    name = next(i.name for i in action.inputs if i.schema.get("type") == "integer")
    with pytest.raises(ValidationFailed):
        gather(action, {"query": {name: value}})
    with pytest.raises(ValidationFailed):
        gather(action, {"query": {"page_size": value}})


@pytest.mark.parametrize(
    "headers",
    [
        {"x-stackone-signature": "é"},
        {"webhook-signature": "v1,é", "webhook-timestamp": "NOW"},
        {"webhook-signature": "v1,x", "webhook-timestamp": "²"},
        {"webhook-signature": "v1,x", "webhook-timestamp": "9" * 5000},
    ],
)
def test_a_signature_of_odd_characters_is_a_bad_one(headers: dict[str, str]) -> None:
    given = {name: value.replace("NOW", str(int(time.time()))) for name, value in headers.items()}
    with pytest.raises(BadSignature):
        verify_webhook(b"{}", given, "whsec_" + base64.b64encode(b"k" * 32).decode())


@pytest.mark.parametrize(
    "path", ["/..%20/x", "/a/%2e%2e%20%20/x", "/%20../x", "/..%2520/x", "/.. ;a/x".replace(" ", "%20")]
)
def test_dots_beside_blanks_are_dots_for_some_servers(path: str) -> None:
    with pytest.raises(BadRequest):
        join_path("https://api.example/base", path)
    assert join_path("https://api.example/base", "/a%20b/..c%20").endswith("/a%20b/..c%20")


def test_trace_is_refused_before_anything_else(project: Project) -> None:
    refused(project.http.request("TRACE", "/proxy/x", headers={"x-account-id": ""}), 405)
